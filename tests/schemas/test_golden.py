"""The bytes on the wire, one line a message type: a change of the wire is seen here before a reader sees it."""

import jsonschema
import msgspec
import pytest

from schemas.asyncapi import document
from schemas.codec import Codec, Place, encode
from schemas.topics import TOPIC_OF, TOPICS
from tests.schemas.samples import GOLDEN, SAMPLES, golden_of

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.__struct_config__.tag)


@every_sample
def test_a_message_is_encoded_to_its_golden_bytes(sample):
    assert encode(sample) + b"\n" == golden_of(sample).read_bytes()


@every_sample
def test_golden_bytes_are_decoded_to_the_message(sample):
    topic = TOPIC_OF[type(sample)]
    decoded = Codec(topic).decode(b"[" + golden_of(sample).read_bytes() + b"]", Place(topic.name, 0, 0))
    assert encode(decoded.messages) == encode([sample]) and not decoded.errors and not decoded.unknown


@every_sample
def test_golden_bytes_are_what_the_document_says(sample):
    components = document()["components"]
    schema = {"$ref": f"#/components/schemas/{type(sample).__name__}", "components": components}
    jsonschema.validate(msgspec.json.decode(golden_of(sample).read_bytes()), schema)


@every_sample
def test_a_field_that_readers_do_not_know_is_skipped(sample):
    topic = TOPIC_OF[type(sample)]
    newer = msgspec.json.decode(golden_of(sample).read_bytes()) | {"added_later": [1, {"a": None}]}
    decoded = Codec(topic).decode(encode([newer]), Place(topic.name, 0, 0))
    assert encode(decoded.messages) == encode([sample])


@every_sample
def test_a_field_with_a_default_may_be_absent(sample):
    kind, topic = type(sample), TOPIC_OF[type(sample)]
    required = {field.encode_name for field in msgspec.structs.fields(kind) if field.required} | {"type"}
    older = {name: value for name, value in msgspec.json.decode(golden_of(sample).read_bytes()).items() if name in required}
    decoded = Codec(topic).decode(encode([older]), Place(topic.name, 0, 0))
    assert [type(message) for message in decoded.messages] == [kind]


def test_every_message_type_has_a_sample_and_nothing_else_has():
    types = {message for topic in TOPICS for message in topic.messages}
    assert {type(sample) for sample in SAMPLES} == types
    assert {path.name for path in GOLDEN.iterdir()} == {golden_of(sample).name for sample in SAMPLES}


@every_sample
def test_a_sample_leaves_no_field_at_its_default(sample):
    assert set(msgspec.json.decode(encode(sample))) == {"type", *(field.encode_name for field in msgspec.structs.fields(type(sample)))}
