"""Workers: the child side hosts environments, the parent side supervises. Imports no gRPC and no protobuf."""
