"""Input rows to output rows: files, plan, columns, checks, shards, and the Ray Data graph."""
