"""Between server and worker: commands, shared rows, progress. Knows of no peer: no gRPC, no protobuf."""
