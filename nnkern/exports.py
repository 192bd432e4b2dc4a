"""The methods of Network that write it to a file or make another library's model of it.

Each hands the network as plain data to the module of its format, which knows nothing of networks.
"""

from nnkern.state import of


def _plain(net, **which):
    """The Model of a network that has parameters."""
    of(net).fitted()
    return net.to_model(**which)


class Exports:
    """What Network inherits them from."""

    def save(self, path, *, training_state=False, format=None):
        """Saves parameters, configuration and metadata to a file, whole or not at all.

        Parameters
        ----------
        path : str, path or file object
            A name that ends in ".safetensors" gives a file of that format (by the package safetensors), whose tensors
            have the names of `to_torch`'s state dict; any other name an .npz archive. So does the name of a file object
            that is open for writing bytes; one without a name, such as an `io.BytesIO`, is an .npz archive. It is
            handed all of it at once.
        training_state : bool
            Save the optimizer with its state, the count of epochs and the random streams too: after `nnkern.load`,
            ``fit(…, resume=True)`` goes on with the same bits as the training that wasn't interrupted.
        format : "npz" or "safetensors", optional
            What a file object holds, whatever its name; `nnkern.load` sees it by itself.

        Raises
        ------
        OSError
            It can't be written; a file that was there is as it was.
        ValueError
            JSON can't hold the metadata, or the name ends as another format's do: see `to_onnx`, `to_torch`, `to_c`; or
            a path's name says another format than `format` does.
        TypeError
            It is neither a path nor a file object for bytes.
        """
        from nnkern.files import model_file

        model_file.write(_plain(self, training_state=training_state), path, format)

    def to_onnx(self, path, **options):
        """Saves the network as an ONNX file, opset 17: X (batch, n_x) to A (batch, n_y), examples in rows.

        The file's numbers are of the network's dtype. Operators that onnxruntime has for float32 only are written by
        means of others in a float64 file; all but gelu's Erf, which onnxruntime can run in float32 alone.

        Parameters
        ----------
        path : str or path
        mean, scale : (n_x,) arrays, optional
            The model takes raw features x and gives the network (x - mean) / scale.
        target_mean, target_scale : (n_y,) arrays, optional
            It gives target_mean + target_scale A.
        labels : list of str or of int, optional
            Names of the classes: the outputs are then "label" (batch,) and "probabilities" (batch, classes), where a
            single sigmoid output p gives the two (1 - p, p).

        Raises
        ------
        MissingPackageError
            The package onnx isn't installed.
        OSError
            The file can't be written; one that was there is as it was.
        ValueError
            Labels, means or scales don't fit the network; it is larger than the 2 GB that ONNX takes; or the name ends
            as another format's do.
        """
        from nnkern.convert import onnx_out

        onnx_out.write(_plain(self), path, **options)

    def to_torch(self):
        """A torch.nn.Sequential with a copy of the parameters, in evaluation mode: (m, n_x) to (m, n_y).

        Returns
        -------
        torch.nn.Sequential
            Linear, activation and Dropout modules, of the network's dtype.

        Raises
        ------
        MissingPackageError
            torch isn't installed.
        ValueError
            torch has no module for an activation.
        """
        from nnkern.convert import torch

        return torch.write(_plain(self))

    def to_sklearn(self):
        """A fitted scikit-learn MLPClassifier or MLPRegressor with a copy of the parameters.

        Its classes are ``metadata["classes"]``, where `nnkern.from_sklearn` has put them, else 0, 1, ….

        Returns
        -------
        MLPClassifier or MLPRegressor

        Raises
        ------
        MissingPackageError
            scikit-learn isn't installed.
        ValueError
            Its MLPs have no such activation, or the hidden layers differ in theirs.
        """
        from nnkern.convert import sklearn

        return sklearn.write(_plain(self, training_state=True))

    def to_c(self, path=None, *, weights=None, calibration=None, **options):
        """The network as one C99 file with the weights and a function ``predict``; it needs nothing but libm.

        Parameters
        ----------
        path : str or path, optional
            Where to write it, whole or not at all.
        weights : "int8", optional
            Writes a file that computes in whole numbers alone, for chips without floating point: int8 weights and
            activations, sums in 32 bits. It needs no library, and takes a quarter of the memory.
        calibration : (n_x, m) array, optional
            With ``weights="int8"``: examples as the network will meet them, raw ones where there are mean and scale.
            The ranges of features, activations and outputs come from them; what is beyond is cut off. Some hundred do.
        **options
            mean, scale, target_mean, target_scale and labels as for `to_onnx`; labels become an array of texts.

        Returns
        -------
        source : str
            ``void predict(const float *x, float *y)`` takes one example of n_x numbers and writes n_y, in double for a
            float64 network. It keeps nothing between calls and takes memory from the stack only, for the two widest
            neighbouring layers at most.

            With ``weights="int8"`` it is ``void predict(const int16_t *x, int16_t *y)``: x is the example times
            2^NETWORK_X_BITS, rounded, and y the outputs times 2^NETWORK_Y_BITS. NETWORK_X_BITS is 0 where all of the
            calibration is whole numbers of 16 bits, such as counts. All features share it: standardise those of very
            unlike sizes. A softmax or a single sigmoid output brings ``int predict_class(const int16_t *x)``, too. The
            comment at the top tells the bytes of constants and stack, and how far outputs and classes are from the
            network's on the calibration.

        Raises
        ------
        OSError, ValueError
            As `to_onnx`. With ``weights="int8"``: there is no calibration, or the network isn't made of `Dense` without
            mix and of `Scale` before these; it has softmax between layers; target_mean or target_scale is given for
            outputs that aren't linear; or a layer has more than some 66,000 inputs.

        Examples
        --------
        >>> import nnkern as nk
        >>> layers = [nk.Dense(4, "relu"), nk.Dense(1)]
        >>> net = nk.Network(layers, "squared_error", n_x=3, seed=0)
        >>> "void predict(const float *x, float *y)" in net.to_c()
        True

        For a chip that has no floating point:

        >>> import numpy as np
        >>> examples = np.random.default_rng(0).normal(size=(3, 200))
        >>> source = net.to_c(weights="int8", calibration=examples)
        >>> "void predict(const int16_t *x, int16_t *y)" in source
        True
        """
        if weights is None and calibration is None:
            from nnkern.convert import c

            return c.write(_plain(self), path, **options)
        from nnkern.convert import c_integers

        if calibration is None or weights != "int8":
            raise ValueError(
                'weights="int8" and calibration=, examples for its ranges, go together; '
                f"got weights={weights!r}, calibration={'None' if calibration is None else 'an array'}"
            )
        return c_integers.write(_plain(self), path, calibration, **options)
