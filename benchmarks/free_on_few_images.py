"""How often a real part that costs more than the margin is found free, by the number of images.

    python benchmarks/free_on_few_images.py [--images 300] [--studies 40]

The population are generated images, on which cuts of the shipped detector that cost little are
evaluated: heads of its last decoder layers, modules. Studies are drawn from it, and each holds all
cuts against margins that some of them exceed. Nothing is called free on fewer than 20 images
(``verdict.FEWEST_FREE``); told is what would be.
"""

import argparse

import numpy as np
from chosen_images import take

import ablate_kit as ak
from ablate_kit.api.images import Images
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.matched import Matched
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.verdict import against_margin
from detector.training.recipes.data_sections import ShapesImages

MARGINS, SIZES = (0.0003, 0.0005, 0.002), (6, 10, 20, 31, 60)
HEADS = ("decoder.layers.1.self_attn", "decoder.layers.2.self_attn", "decoder.layers.2.cross_attn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--studies", type=int, default=40)
    options = parser.parse_args()
    model = ak.load("builtin:shapes_tiny")
    cuts = model.modules("backbone.stage*.0.channel_attention") + model.modules("neck.keep")
    for pattern in HEADS:
        cuts += model.heads(pattern)
    section = ShapesImages(count=options.images)
    swept = ak.sweep(model, Images(section.dataset(), section), cuts, resamples=0)
    found = [one.detections for one in swept.results]
    before, *after = (np.nanmean(average_precision(swept.truth, one).ap) for one in found)
    true = np.array(after) - before
    for images in SIZES:
        wrong = np.zeros(len(MARGINS), dtype=int)
        for study in range(options.studies):
            rng = np.random.default_rng([3, images, study])
            source = np.sort(rng.integers(0, options.images, images))
            truth, sampled = take(swept.truth, found, source)
            bootstrap = Bootstrap(truth, 300, study)
            own, *cut = (bootstrap.ap(Matched.of(truth, one)) for one in sampled)
            tests = [paired_test(one - own) for one in cut]
            known = [(one, change) for one, change in zip(tests, true, strict=True) if one]
            for i, margin in enumerate(MARGINS):
                p = max_t([against_margin(one, margin) for one, _ in known])
                wrong[i] += sum(
                    value < 0.05 and abs(one.change) <= margin < abs(change)
                    for value, (one, change) in zip(p, known, strict=True)
                )
        told = [
            f"{margin:g}: {share:.1%}"
            for margin, share in zip(
                MARGINS,
                wrong / options.studies / [(np.abs(true) > margin).sum() for margin in MARGINS],
                strict=True,
            )
        ]
        print(f"{images} images: found free of those that cost more than {', '.join(told)}",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
