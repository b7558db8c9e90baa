"""The contract on the wire: messages by topic, the topic table, the codec. Imports nothing of the project."""
