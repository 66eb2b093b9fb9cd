"""The wing that watches: session files in, chunks out. The only writer of the store."""
