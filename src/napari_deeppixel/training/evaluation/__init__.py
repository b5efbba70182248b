"""How good predictions are: COCO's figures, StarDist's, curves, and a report of all of them."""
