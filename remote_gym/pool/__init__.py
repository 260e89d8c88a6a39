"""Server process, the parent's side of workers: placed, started, watched, replaced. Imports no gRPC."""
