"""scikit-learn's MLPClassifier and MLPRegressor on nnkern; `nnkern.sklearn` is their public address."""
