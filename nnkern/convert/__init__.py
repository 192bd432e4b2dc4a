"""Networks to and from other formats: ONNX, torch, scikit-learn, C. Each reads or writes a `nnkern.model.Model`.

    chain        dense layers as other libraries write them, one map after another: what all readers build
    options      what an exported file has around the network: standardisation, names of the classes
    forms        how each format writes an activation
    onnx_out, onnx_in (over onnx_operators, onnx_activations, onnx_constants)
    torch, sklearn, c

Nothing here knows the class Network, which is made from a Model. What a format does with a kind of layer is one entry
of its table LAYERS, by the layer's `kind`: a new kind is an entry in each.
"""
