"""Worker process: hosts environments. Imports no gRPC, no protobuf and nothing of the server."""
