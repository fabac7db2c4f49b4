"""Head phantoms: the data set of the demo."""
