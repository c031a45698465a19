"""HTTP server for a trained network: request limits, answers, the web page, and the processes that predict."""
