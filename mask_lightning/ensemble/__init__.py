"""Members of an ensemble and their subsets, votes, model soups and scores."""
