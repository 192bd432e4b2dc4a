"""What `Network.summary` returns."""

from nnkern import layers, schedules


class Summary:
    """What `Network.summary` returns: prints as a table."""

    def __init__(self, net):
        rows, total = [("layer", "units", "activation", "W", "b", "parameters", "")], 0
        n = layers.outputs(net.layers, net.n_x)
        for l, layer in enumerate(net.layers, start=1):
            shapes = layer.parameter_shapes(n[l - 1])
            count = None if n[l - 1] is None else sum(rows_ * columns for rows_, columns in shapes.values())
            total = None if count is None or total is None else total + count
            notes = [f"dropout {schedules.initial(layer.dropout):g}"] if layer.dropout else []
            notes += [f"{name} {_shape(shape)}" for name, shape in shapes.items() if name not in ("W", "b")]
            notes += [] if layer.trainable else ["frozen"]
            rows.append(
                (
                    str(l),
                    _number(n[l]),
                    layer.label,
                    *(_shape(shapes[name]) if name in shapes else "none" for name in ("W", "b")),
                    "?" if count is None else f"{count:,}",
                    ", ".join(notes),
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(
            f"loss {net.loss}, {numbers_of(net)}, "
            + ("parameters not yet initialized" if total is None else f"{total:,} parameters")
        )
        self.parameters = total
        self._text = "\n".join(lines)

    def __str__(self):
        return self._text

    __repr__ = __str__


def numbers_of(net):
    """The dtype of a network, and what its products are computed in where that is another."""
    return str(net.dtype) if net.compute == net.dtype.name else f"{net.dtype}, products in {net.compute}"


def _number(n):
    return "?" if n is None else str(n)


def _shape(shape):
    return f"({', '.join(map(_number, shape))})"
