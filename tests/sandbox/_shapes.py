"""
The shape of JSON: keys and types, wherever in it.
"""


def shape(value):
    """
    Put a value in general terms; a list has the shape of its entries.
    """
    match value:
        case dict():
            return {key: shape(entry) for key, entry in value.items()}
        case list():
            return [shape(entry) for entry in value]
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case None:
            return "null"
        case _:
            return "text"


def differences(value, sample, *, at="$", free=()):
    """
    Yield where a value is not of the shape of a sample.

    A list's entries must each have the shape of one of the sample's. What
    is `null` in one of the two may be anything in the other. Under the paths
    *free* there are keys that nobody counts, but their values are of one
    shape.
    """
    if value is None or sample is None:
        return
    if type(shape(value)) is not type(shape(sample)) or (
        isinstance(shape(value), str) and shape(value) != shape(sample)
    ):
        yield f"{at}: {shape(value)} is no {shape(sample)}"
    elif isinstance(sample, dict):
        if at in free:
            kinds = list(sample.values())
            for key, entry in value.items():
                found = [
                    list(differences(entry, kind, at=f"{at}.*", free=free))
                    for kind in kinds
                ]
                if all(found):
                    yield f"{at}.{key}: {found[0]}"
            return
        if value.keys() != sample.keys():
            yield f"{at}: {sorted(value.keys() ^ sample.keys())}"
            return
        for key, entry in sample.items():
            yield from differences(
                value[key], entry, at=f"{at}.{key}", free=free
            )
    elif isinstance(sample, list) and sample:
        for entry in value:
            found = [
                list(differences(entry, kind, at=f"{at}[]", free=free))
                for kind in sample
            ]
            if all(found):
                yield from found[0]
