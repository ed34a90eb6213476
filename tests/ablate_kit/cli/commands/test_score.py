"""``ablate score`` as a user runs it."""

import contextlib
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import threading

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.reports.results_schema import ResultsFile


@pytest.fixture
def dumps(coco, tmp_path):
    """Annotations, and two dumps: what is there, and the same with every other box moved."""
    dataset = json.loads(coco[0].read_text())
    rows = [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"],
         "score": round(0.9 - 0.01 * i, 2)}
        for i, one in enumerate(dataset["annotations"])
    ]  # fmt: skip
    (tmp_path / "perfect.json").write_text(json.dumps(rows))
    for row in rows[::2]:
        row["bbox"] = [row["bbox"][0] + 500, *row["bbox"][1:]]
    (tmp_path / "moved.json").write_text(json.dumps(rows))
    return coco[0], tmp_path / "perfect.json", tmp_path / "moved.json"


def test_one_file_prints_the_whole_report(run, dumps):
    printed = run("score", dumps[1], "--annotations", dumps[0])
    assert "perfect: COCO metrics" in printed
    assert "AP      1.0000" in printed
    assert "perfect: per class" in printed


def test_several_files_side_by_side(run, dumps, tmp_path):
    out = tmp_path / "report"
    printed = run("score", dumps[1], dumps[2], "--annotations", dumps[0], "-o", out)
    told, *_, perfect, moved = printed.splitlines()[:7]
    assert told.startswith("moved is worse than perfect by more than 0.01 AP: AP -0.")
    perfect, moved = perfect.split(), moved.split()
    assert (perfect[0], perfect[1]) == ("perfect", "1.0000")
    assert moved[0] == "moved"
    assert float(moved[2]) < -0.2
    assert moved[-1] == "worse"
    text = (out / "results.json").read_text()
    ResultsFile.model_validate_json(text)
    results = json.loads(text)
    told, variant = results["run"], results["variants"]["moved"]
    assert variant["overall"]["AP"] == pytest.approx(1 + float(moved[2]), abs=1e-4)
    assert variant["changes"]["AP"]["verdict"] == "costs"
    assert results["answer"] == printed.splitlines()[0]
    assert told["sources"][2] == {
        "role": "detections", "path": str(dumps[2]),
        "sha256": hashlib.sha256(dumps[2].read_bytes()).hexdigest(),
    }  # fmt: skip
    assert told["command"].startswith("ablate score ")
    assert told["images"] == 3
    rows = list(csv.DictReader((out / "changes.csv").read_text().splitlines()))
    assert [row["metric"] for row in rows] == ["AP", "AP50", "f1_calibrated", "giou_penalized"]
    assert float(rows[0]["change"]) == variant["changes"]["AP"]["change"]
    assert (rows[0]["verdict"], rows[1]["verdict"]) == ("costs", "")
    # Of two files the classes are printed, too, as they are in classes.csv.
    assert "AP per class, perfect → moved; no star: none has p < 0.05, adjusted (Holm)" in printed
    of_classes = list(csv.DictReader((out / "classes.csv").read_text().splitlines()))
    assert {row["variant"] for row in of_classes} == {"moved"}
    assert all(f"{float(row['change']):+.4f}" in printed for row in of_classes)


def test_what_comes_out_of_pipes_is_scored_like_files(run, dumps, tmp_path):
    """``<(zcat ...)`` can be read once only: nothing may look into it before."""
    expected = run("score", dumps[1], "--annotations", dumps[0], "--json")
    pipes = [tmp_path / "in" / path.name for path in dumps[:2]]
    pipes[0].parent.mkdir()
    writers = []
    for pipe, path in zip(pipes, dumps, strict=False):
        os.mkfifo(pipe)
        writers.append(threading.Thread(target=pipe.write_bytes, args=[path.read_bytes()]))
        writers[-1].start()
    piped = json.loads(run("score", pipes[1], "--annotations", pipes[0], "--json"))
    assert piped["variants"] == json.loads(expected)["variants"]
    assert [one["sha256"] for one in piped["run"]["sources"]] == [None, None]
    for writer in writers:
        writer.join()


def write_voc(root):
    """An image with one dog, and VOC's file of detections that finds it."""
    (root / "VOC2007/Annotations").mkdir(parents=True)
    (root / "VOC2007/ImageSets/Main").mkdir(parents=True)
    (root / "VOC2007/ImageSets/Main/test.txt").write_text("000001\n")
    (root / "VOC2007/Annotations/000001.xml").write_text(
        "<annotation><filename>000001.jpg</filename><size><width>48</width><height>32</height>"
        "<depth>3</depth></size><object><name>dog</name><bndbox><xmin>3</xmin><ymin>4</ymin>"
        "<xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    (root / "found").mkdir()
    (root / "found/comp4_det_test_dog.txt").write_text("000001 0.9 3 4 30 20\n")
    return root / "found"


@pytest.mark.parametrize("against", ["coco", "voc"])
def test_scoring_does_not_wait_for_torch(against, dumps, tmp_path):
    code = (
        "import sys; from ablate_kit.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    if against == "coco":
        arguments = [*dumps[1:], "--annotations", dumps[0]]
    else:
        arguments = [write_voc(tmp_path), "--voc", tmp_path, "--split", "2007:test"]
    arguments = ["score", *arguments, "-o", tmp_path / "report"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "1.0000" in done.stdout


def variants(printed):
    return json.loads(printed)["variants"]


def test_json_is_what_eval_prints(run, dumps):
    printed = json.loads(run("score", dumps[1], "--annotations", dumps[0], "--json"))["variants"]
    assert printed["perfect"]["overall"]["AP"] == 1
    truth = GroundTruth.from_coco(json.loads(dumps[0].read_text()))
    assert printed["perfect"]["counts"]["ground_truths"] == len(truth)


def test_voc_annotations(run, shared, tmp_path):
    root = shared / "data/voc/VOCdevkit"
    names = (root / "VOC2007/ImageSets/Main/val.txt").read_text().split()
    folder = tmp_path / "dump"
    folder.mkdir()
    source = shared / "data/detections/voc2007_test/yolov2_b"
    for path in source.glob("*.txt"):
        kept = [line for line in path.read_text().splitlines() if line.split()[0] in names]
        (folder / path.name).write_text("\n".join(kept))
    voc = variants(run("score", folder, "--voc", root, "--split", "2007:val", "--json"))
    annotations = shared / "data/detections/voc2007_test/instances_voc2007_test.json.gz"
    import gzip

    dataset = json.loads(gzip.decompress(annotations.read_bytes()))
    ids = {int(name) for name in names}
    dataset["images"] = [one for one in dataset["images"] if one["id"] in ids]
    dataset["annotations"] = [one for one in dataset["annotations"] if one["image_id"] in ids]
    (tmp_path / "subset.json").write_text(json.dumps(dataset))
    coco = variants(run("score", folder, "--annotations", tmp_path / "subset.json", "--json"))
    assert voc["dump"]["counts"] == coco["dump"]["counts"]
    assert voc["dump"]["overall"] == pytest.approx(coco["dump"]["overall"], abs=1e-12)


def test_mistakes(refuse, dumps, tmp_path):
    annotations, perfect, _ = dumps
    against = ("--annotations", annotations)
    assert "give what to score against" in refuse("score", perfect)
    assert "give what to score against" in refuse(
        "score", perfect, *against, "--voc", tmp_path, "--split", "2007:val")  # fmt: skip
    assert "--voc and --split go together" in refuse("score", perfect, "--voc", tmp_path)
    assert "no such file" in refuse("score", tmp_path / "no.json", *against)
    assert "is given twice" in refuse("score", perfect, perfect, *against)
    assert "expected ignore, keep or drop" in refuse(
        "score", perfect, *against, "--difficult", "maybe")  # fmt: skip
    assert "expected xywh or xyxy" in refuse("score", perfect, *against, "--boxes", "cxcywh")
    assert 'no list "annotations" in it; it holds "images"' in refuse(
        "score", perfect, "--annotations", _empty(tmp_path)
    )
    assert "exists" in refuse("score", perfect, *against, "-o", tmp_path)


def _empty(folder):
    (folder / "empty.json").write_text('{"images": []}')
    return folder / "empty.json"


def test_the_report_folder(run, dumps, tmp_path):
    out = tmp_path / "report"
    printed = run("score", dumps[1], dumps[2], "--annotations", dumps[0], "-o", out,
                  "--deep-dissect", "--protocol", "voc", "--protocol", "thesis",
                  "--iou", "0.3,0.5")  # fmt: skip
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {
        "results.json", "protocols.json", "curves.png", "confusion/000_perfect.csv",
        "changes.csv", "classes.csv", "table.tex",
        "changes/001_moved.csv",
        "deep_dissect/001_moved/f1_score_classification_overall_result_0.json",
    } <= files  # fmt: skip
    protocols = json.loads((out / "protocols.json").read_text())
    assert protocols["perfect"]["voc"]["mAP07"] == 1
    assert protocols["perfect"]["ap_at_iou"] == {"0.3": 1, "0.5": 1}
    assert protocols["moved"]["thesis"]["mAP_50"] < 0.9
    assert "perfect → moved: objects lost and gained" in printed
    assert "not comparable with COCO's or VOC's" in printed
    total = (out / "changes/001_moved.csv").read_text().splitlines()[-1].split(",")
    assert total[:2] == ["all", "all"]
    objects, before, then, lost, gained = map(int, total[2:7])
    assert (before, gained) == (objects, 0)
    assert before - lost == then
    assert lost == (objects + 1) // 2
    assert int(total[-1]) == lost  # moved far away: missed


def test_report_options_that_cannot_be(refuse, dumps, tmp_path):
    against = ("--annotations", dumps[0])
    assert "give a folder with -o" in refuse("score", dumps[1], *against, "--deep-dissect")
    assert 'did you mean "voc"' in refuse("score", dumps[1], *against, "--protocol", "vod")
    assert "more than 0, at most 1" in refuse("score", dumps[1], *against, "--iou", "50")
    assert 'cannot read --iou "x"' in refuse("score", dumps[1], *against, "--iou", "x")


def test_the_four_files_of_deep_dissect(run, shared, tmp_path):
    run("score",
        shared / "data/detections/deimv2_coco/detections_val2017_deimv2_atto_results.json",
        "--annotations", shared / "data/coco/annotations/instances_val2017.json",
        "-o", tmp_path / "report", "--deep-dissect")  # fmt: skip
    (folder,) = (tmp_path / "report/deep_dissect").iterdir()
    recorded = shared / "peers/deep_dissect/metrics_deimv2_atto_val206"
    names = sorted(path.name for path in recorded.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert len(names) == 4
    for name in names:
        theirs = json.loads((recorded / name).read_text())
        assert json.loads((folder / name).read_text()) == pytest.approx(theirs, abs=1e-9)


def test_a_limit_of_detections_for_dense_images(run, tmp_path):
    """One image of 300 objects, all found: equal to pycocotools with the same maxDets."""
    side, ids = 20, range(1, 301)
    boxes = [[i % 20 * 25.0, i // 20 * 25.0, side, side] for i in range(300)]
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 500, "height": 400}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}
            for i, box in zip(ids, boxes, strict=True)
        ],
        "categories": [{"id": 1, "name": "seed"}],
    }
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [box[0] + i % 7, *box[1:]], "score": 1 - i / 400}
        for i, box in enumerate(boxes)
    ]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    command = ("score", tmp_path / "dt.json", "--annotations", tmp_path / "gt.json")

    def theirs(limit):
        with contextlib.redirect_stdout(io.StringIO()):
            known = COCO()
            known.dataset = truth
            known.createIndex()
            found = COCOeval(known, known.loadRes(results), "bbox")
            found.params.maxDets = [1, 10, limit]
            found.evaluate()
            found.accumulate()
        precision, recall = found.eval["precision"][..., 0, 2], found.eval["recall"][..., 0, 2]
        return precision[precision > -1].mean(), recall[recall > -1].mean()

    for limit in (100, 200, 300):
        option = () if limit == 100 else ("--max-detections", limit)
        (numbers,) = json.loads(run(*command, *option, "--json"))["variants"].values()
        overall, counts = numbers["overall"], numbers["counts"]
        assert (overall["AP"], overall["AR100"]) == theirs(limit)
        assert counts["tp_fixed"] + counts["fp_fixed"] == min(limit, 201)  # scores from 0.5 on
        assert counts.get("max_detections", 100) == limit
    assert f"AR300   {theirs(300)[1]:.4f}  recall with 300" in run(
        *command, "--max-detections", 300
    )
