"""Examples of each command, shown below its help."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "ablate": (
        "ablate study model.pth --annotations val.json --images val2017",
        "ablate keys model.pth 'decoder.**'",
        "ablate sweep model.pth --heads all --annotations val.json --images val2017",
    ),
    "keys": (
        "ablate keys model.pth 'decoder.layers.{0-2}.*.weight'",
        "ablate keys builtin:shapes_tiny --format tree --levels 2",
    ),
    "meta": ("ablate meta model.pth", "ablate meta hf:facebook/detr-resnet-50 --allow-download"),
    "diff": (
        "ablate diff epoch40.pth epoch50.pth",
        "ablate diff epoch40.pth epoch50.pth 'backbone.**' --by values",
    ),
    "heads": (
        "ablate heads model.pth 'decoder.layers.*.self_attn' --each -o variants",
        "ablate heads model.pth encoder.layers.0.self_attn --heads 0,3 -o variants",
    ),
    "units": (
        "ablate units model.pth 'decoder.**.weight' --percent 10 -o variants",
        "ablate units model.pth 'backbone.**' --percent 5,10,20 --repeats 3 -o variants",
    ),
    "component": (
        "ablate component model.pth 'neck.**' -o without_neck.pth",
        "ablate component model.pth 'decoder.layers.2.**' -o cut.pth --dry-run",
    ),
    "layers": (
        "ablate layers model.pth --base decoder.layers --part cross_attn -o variants",
        "ablate layers model.pth --base encoder.layers --part ffn --mode each -o variants",
    ),
    "queries": (
        "ablate queries model.pth --queries 0,3-5 -o variants",
        "ablate queries model.pth --each -o variants --dry-run",
    ),
    "levels": (
        "ablate levels model.pth model.input_proj -o variants",
        "ablate levels model.pth model.input_proj --levels 0,2 -o variants",
    ),
    "points": (
        "ablate points model.pth 'decoder.layers.*.cross_attn' -o variants",
        "ablate points model.pth 'decoder.layers.*.cross_attn' --levels 0 --share lost -o variants",
    ),
    "skip": (
        "ablate skip model.pth 'decoder.layers.*.ffn' -o variants",
        "ablate skip model.pth encoder.layers.0.self_attn -o variants --dry-run",
    ),
    "mean": (
        "ablate mean model.pth 'decoder.layers.*.self_attn' --each --voc VOCdevkit -o variants",
        "ablate mean model.pth backbone.stem --channels 0,5 --shapes -o variants",
    ),
    "dissect": (
        "ablate dissect detr.pth units TENSOR --percent 5,10 -o variants",
        "ablate dissect detr.pth progressive 'dec.{layer}.fc1.weight' --layers 0-5 -o variants",
    ),
    "verify": ("ablate verify variants/model-decoder.layers.0.self_attn-head0.pth",),
    "apply": ("ablate apply model.pth variants/cut.ablation.json -o again.pth",),
    "swap": (
        "ablate swap model.pth gate_fuse=off -o swapped.pth",
        "ablate swap model.pth csi=off pgi=[1,3] --init fresh -o swapped.pth",
    ),
    "graft": (
        "ablate graft model.pth --from pretrained.pth -o begun.safetensors",
        "ablate graft model.pth --from imagenet.pth --parts backbone --skip-mismatched -o x.pth",
    ),
    "convert": (
        "ablate convert notebook.pth -o model.safetensors",
        "ablate convert mmdet_detr.pth --to transformers -o folder",
        "ablate convert detr.pth --to transformers --class-names train.json -o folder",
    ),
    "shrink": (
        "ablate shrink model.safetensors --drop heads.ablation.json -o smaller.safetensors",
        "ablate shrink detr_folder --from runs/heads --free -o detr_smaller",
    ),
    "eval": (
        "ablate eval model.pth --voc VOCdevkit --split 2007:test -o runs/report",
        "ablate eval a.pth b.pth --annotations val.json --images val2017 --margin 0.005",
    ),
    "score": (
        "ablate score dets.json --annotations val.json",
        "ablate score a.json b.json --annotations val.json -o runs/scored",
    ),
    "schema": ("ablate schema",),
    "predict": (
        "ablate predict model.pth street.jpg -o runs/boxes",
        "ablate predict model.pth *.jpg --compare variants/cut.pth --score 0.4 -o runs/boxes",
    ),
    "patch": (
        "ablate patch epoch40.pth epoch50.pth --annotations val.json --images val2017",
        "ablate patch model.pth initial.pth --voc VOCdevkit --split 2007:test --depth 2",
    ),
    "knobs": (
        "ablate knobs model.pth --depth --annotations val.json --images val2017 -o runs/knobs",
        "ablate knobs model.pth --queries 200,100 --size 512,384 --voc VOCdevkit --split 2007:test",
    ),
    "demo": ("ablate demo", "ablate demo -o runs/demo"),
    "study": (
        "ablate study model.pth --annotations val.json --images val2017 --budget 10m",
        "ablate study detr_folder --images photographs --budget 5m -o runs/unlabeled",
        "ablate study builtin:shapes_tiny --shapes --budget 60s",
    ),
    "sweep": (
        "ablate sweep recipes/sweep/shapes_tiny.yaml --set data.limit=50 -o runs/heads",
        "ablate sweep model.pth --heads all --layers all --shapes -o runs/common",
    ),
    "replicate": (
        "ablate replicate runs/study seed2.pth seed3.pth",
        "ablate replicate runs/seed1 runs/seed2 runs/seed3 -o runs/seeds",
    ),
    "export": (
        "ablate export runs/heads -o coco",
        "ablate export runs/heads --variants 'decoder.*' -o coco",
    ),
    "cache": ("ablate cache runs/cache", "ablate cache runs/cache --clear"),
    "report": ("ablate report runs/heads", "ablate report runs/heads --margin 0.005 --top 20"),
    "train": (
        "ablate train recipes/train/voc.yaml --device cuda",
        "ablate train recipes/train/shapes_tiny.yaml --set training.epochs=2 -o runs/try",
    ),
    "pretrain": (
        "ablate pretrain recipes/pretrain/shapes_tiny.yaml",
        "ablate pretrain recipes/pretrain/mini_imagenet.yaml --device cuda -o runs/pretrained",
    ),
    "retrain": (
        "ablate retrain recipes/retrain/modules_tiny.yaml",
        "ablate retrain recipes/retrain/voc_thesis.yaml --device cuda -o runs/study",
    ),
    "gradients": (
        "ablate gradients recipes/train/shapes_tiny.yaml --iterations 200 -o runs/gradients",
        "ablate gradients model.pth --shapes --lr 1e-4 -o runs/gradients",
    ),
}


def example_text(command: str) -> str | None:
    """As the last part of a help text; None of a command without examples."""
    found = EXAMPLES.get(command)
    return None if found is None else "\n\n".join(("Examples:", *found))
