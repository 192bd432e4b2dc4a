"""Names of files: which format an ending means, and which endings belong to what other programs write and read."""

import os

# ending: (whose it is, what writes it from a network `net`, what reads it)
_ONNX_FIRST = "convert it to ONNX, then nnkern.from_onnx(path)"
_OTHERS = {
    (".onnx",): ("ONNX", "net.to_onnx(path), or `nnkern export --to onnx`", "nnkern.from_onnx(path)"),
    (".pt", ".pth"): (
        "torch",
        "torch.save(net.to_torch(), path), or `nnkern export --to torch`",
        "nnkern.from_torch(module), for the module that torch.load gives",
    ),
    (".h5", ".hdf5", ".keras"): ("Keras", "net.to_onnx(path), which Keras' converters take", _ONNX_FIRST),
    (".pb", ".tflite"): ("TensorFlow", "net.to_onnx(path), which TensorFlow's converters take", _ONNX_FIRST),
    (".pkl", ".pickle"): ("pickle", "pickle.dump(net, file)", "pickle.load(file)"),
    (".joblib",): ("joblib", "joblib.dump(net, path)", "joblib.load(path)"),
    (".c", ".h"): ("C", "net.to_c(path), or `nnkern export --to c`", "nothing makes a network of C again"),
}
_OTHER = {ending: row for endings, row in _OTHERS.items() for ending in endings}
# those of models, which `save` writes
_OWN = (".npz", ".safetensors")
# what writes another format: whose endings are its own
_EXPORTS = {"to_onnx": "ONNX", "to_c": "C", "--to torch": "torch"}


def _ending(path):
    return os.path.splitext(path)[1].lower()


def is_safetensors(path):
    """Whether a model's file of that name is one of safetensors."""
    return _ending(path) == ".safetensors"


def check_written(path):
    """Refuses to write a network under a name that says that it is something else."""
    if _ending(path) in _OTHER:
        whose, writes, _ = _OTHER[_ending(path)]
        raise ValueError(f"save writes .npz or .safetensors, and {path} ends as files of {whose} do: {writes}")


def check_table_written(path):
    """The same of a table's model, which has one format."""
    if _ending(path) in _OTHER or is_safetensors(path):
        raise ValueError(
            f"a table's model is saved as .npz only, and {path} ends as files of another format do: to_onnx(path) and "
            "to_c(path) write these, and pickle takes the estimator"
        )


def check_exported(path, exporter, *, table=False):
    """Refuses to write another format under a name that says that it is something else; `exporter` is in _EXPORTS.

    None and a file object have no ending. A table's model has fewer methods than a network.
    """
    if path is None or hasattr(path, "write"):
        return
    path = os.fsdecode(path)
    ending, own = _ending(path), _EXPORTS[exporter]
    whose, writes, _ = _OTHER.get(ending, ("nnkern", "save(path)" if table else "net.save(path)", None))
    if whose == own or ending not in {*_OTHER, *_OWN}:
        return
    if table and whose != "nnkern":
        writes = "to_onnx(path), to_c(path) and save(path), for .npz, are what a table's model has"
    names = " or ".join(next(endings for endings, row in _OTHERS.items() if row[0] == own))
    raise ValueError(f"{exporter} writes {own}, and {path} ends as files of {whose} do: {writes}. Else name it {names}")


def check_read(path):
    """Refuses to read a model from a file whose name says that it is something else."""
    if _ending(path) in _OTHER:
        whose, _, reads = _OTHER[_ending(path)]
        raise ValueError(
            f"load reads .npz or .safetensors, and {path} ends as files of {whose} do: {reads}. "
            "A model that save wrote under such a name can be renamed"
        )
