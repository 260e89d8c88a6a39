"""Server process: sessions between gRPC and the pool. Imports no client and no worker."""
