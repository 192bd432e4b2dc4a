"""Model files: networks as plain data, written whole or not at all, read without trust. It knows no class Network."""
