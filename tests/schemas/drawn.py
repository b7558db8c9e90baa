"""Drawn messages of any type, from what its fields say of themselves."""

import msgspec
from hypothesis import strategies as st
from msgspec import Raw, Struct
from msgspec import inspect as kinds

from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS, Quotes, Trades
from schemas.topics import TOPICS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COLUMNS = {Trades: TRADE_COLUMNS, Quotes: QUOTE_COLUMNS}
TYPES = [message for topic in TOPICS for message in topic.messages]


def drawn(kind: kinds.Type) -> st.SearchStrategy:
    """Return values of a field's type."""
    match kind:
        case kinds.Metadata():
            return drawn(kind.type)
        case kinds.IntType():
            return st.integers(-(2**63) if kind.ge is None else kind.ge, 2**63 - 1 if kind.lt is None else kind.lt - 1)
        case kinds.FloatType():
            low, exclusive = (kind.gt, True) if kind.gt is not None else (kind.ge, False)
            high, below = (kind.lt, True) if kind.lt is not None else (kind.le, False)
            return st.floats(low, high, allow_nan=False, allow_infinity=False, exclude_min=exclusive, exclude_max=below)
        case kinds.DecimalType():
            return st.decimals(allow_nan=False, allow_infinity=False)
        case kinds.StrType():
            return TEXT
        case kinds.BoolType():
            return st.booleans()
        case kinds.NoneType():
            return st.none()
        case kinds.BytesType():
            return st.binary(max_size=40)
        case kinds.RawType():
            return st.dictionaries(TEXT, st.integers(0, 9), max_size=3).map(lambda value: Raw(msgspec.json.encode(value)))
        case kinds.LiteralType():
            return st.sampled_from(kind.values)
        case kinds.UnionType():
            return st.one_of(*map(drawn, kind.types))
        case kinds.TupleType():
            return st.tuples(*map(drawn, kind.item_types))
        case kinds.ListType():
            return st.lists(drawn(kind.item_type), max_size=4)
        case kinds.StructType():
            return messages(kind.cls)
        case kinds.DictType():
            return st.dictionaries(drawn(kind.key_type), drawn(kind.value_type), max_size=4)
    raise NotImplementedError(f"{kind}: expected a type of the contract; say here how to draw it")


@st.composite
def messages(draw, kind: type[Struct]) -> Struct:
    """Return a message of a type; columns of a run have one length, and a side of a quote is empty as a whole."""
    fields = {field.name: field.type for field in kinds.type_info(kind).fields}
    rows = draw(st.integers(1, 4))
    found = {}
    for name, field in fields.items():
        if name in COLUMNS.get(kind, ()):
            item = draw_present(field.item_type)
            found[name] = draw(st.lists(item, min_size=rows, max_size=rows))
        else:
            found[name] = draw(drawn(field))
    if kind is Quotes:
        for side in ("bid", "ask"):
            for row in draw(st.sets(st.integers(0, rows - 1))):
                found[f"{side}_price"][row] = found[f"{side}_size"][row] = None
    return kind(**found)


def draw_present(kind: kinds.Type) -> st.SearchStrategy:
    """Return values of a column's type, but None."""
    return drawn(kind).filter(lambda value: value is not None)


ANY_MESSAGE = st.sampled_from(TYPES).flatmap(messages)
