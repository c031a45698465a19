"""Lightning callbacks, one behaviour per file; `order` declares and enforces their order."""
