"""From a data frame to a trained ensemble of networks, and back to one call: TabularClassifier and TabularRegressor."""
