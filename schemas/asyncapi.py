"""The contract as an AsyncAPI 3 document, generated from the topic table: `python -m schemas.asyncapi` writes docs/asyncapi.json.

A record is AsyncAPI's message: its key names the instrument or account, its payload is an array of our messages.
"""

import inspect
import sys
from pathlib import Path

import msgspec

from schemas.topics import TOPICS, Topic

DOCUMENT = Path(__file__).parent.parent / "docs" / "asyncapi.json"
CONTENT_TYPE = "application/json"
KAFKA_BINDING = "0.5.0"


def document() -> dict:
    """Return the document."""
    types = [message for topic in TOPICS for message in topic.messages]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        schema["description"] = inspect.cleandoc(schema["description"])  # newer Pythons strip a docstring's margin, older ones do not
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tapestream",
            "version": "1",
            "description": "Crypto market data as an event stream. All times are integer microseconds since 1970 UTC; "
            "a message of an unknown type is skipped, an unknown field too; a field with a default may be absent.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic.name: channel(topic) for topic in TOPICS},
        "components": {
            "messages": {record_name(topic): record(topic) for topic in TOPICS if topic.messages},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def channel(topic: Topic) -> dict:
    """Return a topic as a channel."""
    name = record_name(topic)
    return {
        "address": topic.name,
        "description": topic.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}} if topic.messages else {},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": {"retention.ms": topic.retention_ms},
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def record(topic: Topic) -> dict:
    """Return a topic's record as a message: messages of one key, in order."""
    return {
        "name": record_name(topic),
        "contentType": CONTENT_TYPE,
        "payload": {
            "type": "array",
            "items": {"anyOf": [{"$ref": f"#/components/schemas/{message.__name__}"} for message in topic.messages]},
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": KAFKA_BINDING}},
    }


def record_name(topic: Topic) -> str:
    return f"{topic.name}_record"


def text() -> bytes:
    """Return the document as it is committed."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


if __name__ == "__main__":
    DOCUMENT.write_bytes(text())
    print(f"wrote {DOCUMENT.name}: {len(TOPICS)} topics", file=sys.stderr)
