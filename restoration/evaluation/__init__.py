"""How good a result is: metrics, classical baselines, published figures, tables."""
