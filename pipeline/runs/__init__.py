"""What a run leaves behind: its directory, fingerprint, retries, figures."""
