"""What predictions are worth where the truth is known: numbers only, from arrays; `reports` draws and prints them."""
