"""The local backend: jobs in SQLite, pods as processes, storage in a folder."""
