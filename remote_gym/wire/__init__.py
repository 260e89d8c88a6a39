"""Bytes: messages, frames and spaces as the contract in `protos/` has them. No sockets and no processes."""
