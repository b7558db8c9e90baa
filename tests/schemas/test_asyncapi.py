"""docs/asyncapi.json is the topic table of today, and holds together."""

from collections.abc import Iterator

import jsonschema
import msgspec
import pytest

from schemas import asyncapi
from schemas.topics import TOPICS

DOCUMENT = asyncapi.document()


def references(value: object) -> Iterator[str]:
    """Yield every $ref in a document."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def target(reference: str) -> object:
    found = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def test_the_committed_document_is_current():
    assert asyncapi.DOCUMENT.read_bytes() == asyncapi.text(), "run: python -m schemas.asyncapi"


def test_every_reference_leads_somewhere():
    found = list(references(DOCUMENT))
    assert found and all(target(reference) for reference in found)


def test_every_schema_is_a_schema():
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_channel_says_what_the_table_says(topic):
    channel = DOCUMENT["channels"][topic.name]
    kafka = channel["bindings"]["kafka"]
    assert (channel["address"], kafka["partitions"], kafka["topicConfiguration"]["retention.ms"]) == (
        topic.name,
        topic.partitions,
        topic.retention_ms,
    )


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic.messages], ids=lambda topic: topic.name)
def test_a_record_is_an_array_of_the_topics_messages(topic):
    record = DOCUMENT["components"]["messages"][f"{topic.name}_record"]
    names = [reference.rpartition("/")[2] for reference in references(record["payload"])]
    assert record["payload"]["type"] == "array" and names == [message.__name__ for message in topic.messages]
    assert record["bindings"]["kafka"]["key"]["description"] == topic.key


def test_the_document_is_the_same_each_time():
    assert asyncapi.text() == msgspec.json.format(msgspec.json.encode(asyncapi.document()), indent=2) + b"\n"
