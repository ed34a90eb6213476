"""COCO's class names as models number them."""

from ablate_kit.models.labels.classes import NO_CLASS

_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, , backpack, umbrella, , , handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, , wine glass,
cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza,
donut, cake, chair, couch, potted plant, bed, , dining table, , , toilet, , tv, laptop, mouse,
remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, , book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""

COCO_BY_ID = (NO_CLASS, *(name.strip() or NO_CLASS for name in _NAMES.split(",")))
"""By category id, 0 to 90, of which 80 are classes."""
COCO_IN_ORDER = tuple(name for name in COCO_BY_ID if name != NO_CLASS)
"""The 80 classes, in the order of their ids."""
