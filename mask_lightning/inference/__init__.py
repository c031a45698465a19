"""From a trained network to answers: photos are passed once, and everything later reads what was kept."""
