"""NATS JetStream: subjects, messages, streams, publishing and consuming."""
