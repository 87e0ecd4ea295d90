"""From labeled studies to models and back, in miniature."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import DEFAULT, tiny, write_case
from typer.testing import CliRunner

from clickseg.baselines.recipe import RivalConfig
from clickseg.cli import app
from clickseg.clicks import Click
from clickseg.config import (
    ConfigError,
    SmallPatchConfig,
    config_from,
    load_config,
    load_recipe,
    save_config,
)
from clickseg.correction.local import LocalCorrection
from clickseg.evaluation.methods import build_method, parse_method, train_minutes
from clickseg.modelfile import ModelError, read_manifest
from clickseg.models import load_models
from clickseg.placement import tell_mode
from clickseg.study import PLACING_FOLDER, labeled_cases, read_study
from clickseg.training import rival, start
from clickseg.training.correction import train_correction
from clickseg.training.initial import train_initial
from clickseg.training.local import ball_loss, click_scores, region_study
from clickseg.training.loop import Run
from clickseg.training.prepare import Prepared, prepare_cases
from clickseg.training.split import read_split
from clickseg.training.start import begin
from clickseg.training.two_stage import train_segment
from clickseg.volume import ImageError

RIVALS = DEFAULT.parent / "rivals"


def stop(*_):
    raise KeyboardInterrupt


TRAINING = ("fold0", "fold1", "locate", "segment", "correction")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for number, radius_mm in enumerate([4.0, 5.0, 3.0, 6.0], start=1):
        write_case(folder, f"VS-{number}", (20 + 5 * number, 26, 9), radius_mm, t2=number != 2)
    write_case(folder, "VS-5", (30, 26, 9), -1.0)
    write_case(folder, "VS-6", (30, 26, 9), 4.0, label=False)
    return folder


def test_training_writes_models_that_load_and_answer(studies, tmp_path):
    config, cases = tiny(), labeled_cases(studies)
    train_initial(cases, config, tmp_path, "cpu")
    train_correction(cases, config, tmp_path, "cpu")
    split = read_split(tmp_path / "split.json")
    assert sorted([*split.training, *split.validation]) == [f"VS-{n}" for n in range(1, 6)]
    for name in ("initial", "correction"):
        manifest = read_manifest(tmp_path, name)
        assert config_from(manifest.recipe) == config
        assert manifest.data["training"] == list(split.training)
    assert {"validation_dice", "seconds_a_study"} <= set(read_manifest(tmp_path, "initial").metrics)
    assert load_config(tmp_path / "config.yaml") == config
    assert {path.name for path in (tmp_path / "log").iterdir()} == set(TRAINING)

    models = load_models(tmp_path)
    study = read_study(cases[0].t1ce, cases[0].t2)
    start = models.initial(study).mask
    click = Click.at((20, 20, 9), True, study.grid)
    mask = models.correction(study, start, (click,)).mask
    assert mask[click.voxel(study.grid.canonical)] == 1


def test_a_run_goes_on_only_by_the_recipe_it_began_with(studies, tmp_path):
    config, cases = tiny(), labeled_cases(studies)
    begin(cases, config, tmp_path)
    begin(cases, config, tmp_path)
    with pytest.raises(ConfigError, match="another recipe"):
        begin(cases, replace(config, seed=2), tmp_path)
    with pytest.raises(ConfigError, match="other cases"):
        begin(cases[1:], config, tmp_path)


def test_a_run_that_an_earlier_pattern_of_patients_began_goes_on(studies, tmp_path):
    slow = r"^(?:sub-)?((?:[A-Za-z]+[-_]?)*[0-9]+)"
    now, cases = tiny(), labeled_cases(studies)
    split = begin(cases, replace(now, split=replace(now.split, patient=slow)), tmp_path)
    assert begin(cases, now, tmp_path) == split


def test_a_run_tells_what_cannot_be_read_from_what_was_changed(studies, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    config, cases = tiny(), labeled_cases(tmp_path / "studies")
    away = tmp_path / "away.nii.gz"
    cases[2].t1ce.rename(away)
    begin(cases, config, tmp_path / "without")
    away.rename(cases[2].t1ce)
    with pytest.raises(ConfigError, match=f"began without {cases[2].case_id}, or"):
        begin(cases, config, tmp_path / "without")
    begin(cases, config, tmp_path / "with")
    cases[2].t1ce.rename(away)
    with pytest.raises(ConfigError, match=f"{cases[2].case_id} cannot be read"):
        begin(cases, config, tmp_path / "with")


def test_a_run_goes_on_only_with_the_files_it_began_with(studies, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    config, cases = tiny(), labeled_cases(tmp_path / "studies")
    begin(cases, config, tmp_path / "run")
    label = cases[2].label
    content = label.read_bytes()
    shutil.copyfile(cases[1].label, label)
    with pytest.raises(ConfigError, match=f"without {cases[2].case_id}, or with other images"):
        begin(cases, config, tmp_path / "run")
    label.write_bytes(content)
    begin(cases, config, tmp_path / "run")
    tell_mode(tmp_path / "studies" / PLACING_FOLDER, "auto")
    with pytest.raises(ConfigError, match="other images or labels"):
        begin(cases, config, tmp_path / "run")


def test_resuming_after_the_folds_gives_the_same_correction(studies, tmp_path):
    config, cases = tiny(), labeled_cases(studies)
    train_correction(cases, config, tmp_path / "whole", "cpu")
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for name in ("correction.checkpoint.pt", "correction.pt", "correction.json"):
        (tmp_path / "resumed" / name).unlink()
    train_correction(cases, config, tmp_path / "resumed", "cpu")
    whole, resumed = (
        read_manifest(tmp_path / n, "correction").sha256 for n in ("whole", "resumed")
    )
    assert whole == resumed


def test_a_corrupt_study_among_good_ones_is_left_out(studies, tmp_path, caplog):
    for path in studies.rglob("*.nii.gz"):
        target = tmp_path / path.relative_to(studies)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes()[: 200 if path.name == "VS-3.nii.gz" else None])
    with caplog.at_level("WARNING"):
        prepared = prepare(labeled_cases(tmp_path))
    assert [case.case_id for case in prepared] == ["VS-1", "VS-2", "VS-4", "VS-5"]
    assert "VS-3 is left out" in caplog.text


def test_a_rival_is_trained_and_answers(studies, tmp_path):
    config = load_recipe(RIVALS / "focal_click_joined.yaml", RivalConfig)
    length = {"epochs": 1, "steps_per_epoch": 2, "batch": 2, "bfloat16": False}
    fit = replace(config.rival.fit, **length)
    small_one = replace(config.rival, window=32, filters=(4, 4, 8, 8), fit=fit)
    config = replace(config, split=replace(config.split, validation=0.34), rival=small_one)
    recipe = tmp_path / "tiny.yaml"
    save_config(config, recipe)
    assert load_recipe(recipe, RivalConfig) == config
    out = tmp_path / "run"
    command = ["train", "rival", "--studies", str(studies), "--config", str(recipe)]
    result = CliRunner().invoke(app, [*command, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert read_manifest(out, "rival").metrics.keys() >= {"slice_dice_after_3"}
    name, folder = parse_method(f"focal_click_joined={out}")
    study = read_study(studies / "VS-1.nii.gz")
    session = build_method(name, folder).open(study, None)
    answer = session.answer((Click.at((30, 26, 9), True, study.grid.canonical),), (3.0,))
    assert answer.mask.shape == study.grid.canonical.shape
    assert train_minutes(name, folder) == read_manifest(out, "rival").data["minutes"]
    assert train_minutes("flooding", folder) is None
    with pytest.raises(ModelError, match="holds focal_click_joined, ritm_static was wanted"):
        build_method("ritm_static", folder)


def test_errors_that_do_not_fit_a_rival_are_refused(studies, tmp_path):
    command = ["train", "rival", "--studies", str(studies), "--out", str(tmp_path / "run")]

    def refused(errors, recipe=RIVALS / "ritm_static.yaml", part="rival"):
        words = ["train", part, *command[2:], "--config", str(recipe)]
        result = CliRunner().invoke(app, [*words, "--errors", str(errors)])
        assert result.exit_code
        assert not (tmp_path / "run").exists()
        return str(result.exception) + result.output

    small = tmp_path / "small.pt"
    torch.save({"VS-1": torch.zeros(1, 9, 8, 7, dtype=torch.uint8)}, small)
    assert "shape (1, 144, 144, 36)" in refused(small)
    assert "it has (1, 9, 8, 7)" in refused(small)
    assert "it learns from no real errors" in refused(small, RIVALS / "deep_edit.yaml")
    unused = tmp_path / "unused.yaml"
    config = load_recipe(RIVALS / "ritm_static.yaml", RivalConfig)
    save_config(replace(config, rival=replace(config.rival, real=0.0)), unused)
    assert "no real errors are used" in refused(small, unused)
    (tmp_path / "none.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("no weights at all")
    for name in ("none.pt", "text.pt", "missing.pt"):
        assert "cannot be read as real_errors.pt" in refused(tmp_path / name)
    for number, other in enumerate([[torch.zeros(1)], {"epoch": 3}, {}]):
        torch.save(other, tmp_path / f"{number}.pt")
        assert "it is another file" in refused(tmp_path / f"{number}.pt")
    assert "--errors is for a rival" in refused(small, part="correction")


def small_rival(folder, monkeypatch):
    """A recipe that looks at small regions and begins with nothing but real errors."""
    monkeypatch.setattr(rival, "REGION", (36, 36, 12))
    config = load_recipe(RIVALS / "ritm_static.yaml", RivalConfig)
    fit = replace(config.rival.fit, epochs=1, steps_per_epoch=2, batch=2, bfloat16=False)
    recipe = folder / "tiny.yaml"
    tiny_one = replace(config.rival, window=32, filters=(4, 4, 8, 8), fit=fit, start=1.0, real=1.0)
    save_config(replace(config, rival=tiny_one), recipe)
    return ["--config", str(recipe)]


def write_errors(path, studies, shift):
    """Write the labels, moved along I, as what a network said of the studies."""
    cases = prepare_cases(labeled_cases(studies), rival.SPACING_MM, rival.REGION, (3, 3, 3), 1)
    masks = {case.case_id: case.region_label.roll(shift, 1) for case in cases}
    torch.save(masks, path)
    return ["--errors", str(path)]


def test_a_rival_learns_from_real_errors(studies, tmp_path, monkeypatch):
    words = ["train", "rival", "--studies", str(studies), *small_rival(tmp_path, monkeypatch)]
    errors = write_errors(tmp_path / "real_errors.pt", studies, 3)
    others = write_errors(tmp_path / "others.pt", studies, 4)

    def run(name, *more):
        return CliRunner().invoke(app, [*words, "--out", str(tmp_path / name), *more])

    assert run("with", *errors).exit_code == 0
    assert run("ahead", *errors, "--workers", "2").exit_code == 0
    assert run("without").exit_code == 0
    made = {name: read_manifest(tmp_path / name, "rival") for name in ("with", "ahead", "without")}
    assert made["with"].sha256 == made["ahead"].sha256 != made["without"].sha256
    assert made["with"].data["real_errors"]["studies"] == 5
    assert "real_errors" not in made["without"].data
    for name, given in [("with", ()), ("with", others), ("without", errors)]:
        assert "began with other real errors" in str(run(name, *given).exception)
    assert run("with", *errors).exit_code == 0
    # Stopped between its first two files, it can be begun again.
    with monkeypatch.context() as patched:
        patched.setattr(start, "_check_contents", stop)
        assert run("stopped", *errors).exception is not None
    assert (tmp_path / "stopped/config.yaml").is_file()
    assert run("stopped", *errors).exit_code == 0


def test_errors_of_other_studies_are_refused(studies, tmp_path, monkeypatch):
    words = ["train", "rival", "--studies", str(studies), *small_rival(tmp_path, monkeypatch)]
    errors = write_errors(tmp_path / "far.pt", studies, 18)
    out = ["--out", str(tmp_path / "run")]
    assert "a median Dice of 0.0" in str(CliRunner().invoke(app, [*words, *errors, *out]).exception)
    torch.save({"VS-9": torch.ones(1, 36, 36, 12, dtype=torch.uint8)}, tmp_path / "none.pt")
    given = ["--errors", str(tmp_path / "none.pt"), "--out", str(tmp_path / "none")]
    assert "it holds 0 of" in str(CliRunner().invoke(app, [*words, *given]).exception)


@pytest.mark.parametrize("train", [train_initial, train_correction])
def test_a_model_is_the_same_where_its_batches_are_drawn_ahead(studies, tmp_path, train):
    hashes = {
        train(
            labeled_cases(studies), tiny(), tmp_path / f"{workers}", "cpu", workers=workers
        ).sha256
        for workers in (0, 1)
    }
    assert len(hashes) == 1


def test_a_folder_without_labels_is_refused(tmp_path):
    write_case(tmp_path, "VS-1", (30, 26, 9), 4.0, label=False)
    with pytest.raises(ImageError, match=r"labels .* were wanted, there are none in .*final"):
        labeled_cases(tmp_path)


def test_studies_without_a_label_are_counted(tmp_path, caplog):
    write_case(tmp_path, "VS-1", (30, 26, 9), 4.0, label=False)
    write_case(tmp_path, "VS-2", (30, 26, 9), 4.0)
    with caplog.at_level("WARNING"):
        assert [case.case_id for case in labeled_cases(tmp_path)] == ["VS-2"]
    assert "1 studies without a label are left out" in caplog.text


def prepare(cases):
    return prepare_cases(cases, (0.5, 0.5, 1.5), (32, 32, 12), (2.0, 2.0, 3.0), seed=1)


def test_a_prepared_case_keeps_the_tumor_in_its_middle(studies):
    case = prepare(labeled_cases(studies)[:1])[0]
    assert case.region.shape == (2, 32, 32, 12)
    assert case.region.dtype == torch.float16
    middle = torch.nonzero(case.region_label[0]).float().mean(0)
    np.testing.assert_allclose(middle, [16, 16, 6], atol=0.6)
    assert all(empty.shape == (2, 26, 26, 10) for empty in case.empty)
    # A ball of 4 mm: 268 mm3 of voxels of 12 mm3, where more than 0.3 of a voxel is tumor.
    assert 20 <= int(case.coarse_label.sum()) <= 40


def test_a_speck_elsewhere_moves_no_region(tmp_path):
    write_case(tmp_path, "VS-1", (30, 26, 9), 4.0)
    (case,) = labeled_cases(tmp_path)
    expected = prepare([case])[0]
    image = nib.load(case.label)
    label = np.asarray(image.dataobj).copy()
    label[1:5, 1:6, 1:4] = 1  # 60 voxels of about 720
    nib.save(nib.Nifti1Image(label, image.affine), case.label)
    (prepared,) = prepare([case])
    assert torch.equal(prepared.region_label, expected.region_label)
    assert int(prepared.coarse_label.sum()) > int(expected.coarse_label.sum())


def test_a_tumor_free_study_is_prepared_without_one(studies):
    case = prepare([c for c in labeled_cases(studies) if c.case_id == "VS-5"])[0]
    assert not case.has_tumor
    assert not case.region_label.any()
    assert not case.coarse_label.any()


def test_a_share_of_the_steps_is_made_on_smaller_patches(studies, tmp_path):
    config, case = tiny().initial, prepare(labeled_cases(studies))[0]
    segment = replace(
        config.segment,
        small=SmallPatchConfig(patch=(8, 12, 4), share=0.75),
        fit=replace(config.segment.fit, steps_per_epoch=40),
    )
    network, shapes = torch.nn.Conv3d(2, 1, 1), []
    network.register_forward_pre_hook(lambda _net, given: shapes.append(given[0].shape[2:]))
    run = Run(tmp_path, "initial", 1)
    config = replace(config, segment=segment)
    train_segment(network, [case], [], config, run, segment.fit)
    assert set(shapes) == {(8, 12, 4), segment.patch}
    assert 22 <= shapes.count((8, 12, 4)) <= 38  # of 40; within three deviations of 30


@pytest.mark.parametrize(
    ("is_foreground", "dice"),
    [
        # What may be added is the second voxel alone, whose weight is a half: it is wanted, and
        # half of it said; one is added to both.
        (True, (2 * 0.25 + 1) / (0.25 + 0.5 + 1)),
        # What may be removed is the first, which is right: nothing is wanted, a half is said.
        (False, 1 / (0.5 + 1)),
    ],
)
def test_ball_loss_by_hand(is_foreground, dice):
    logits = torch.tensor([0.0, 0.0]).reshape(1, 1, 2, 1, 1)
    label = torch.tensor([1.0, 1.0]).reshape(1, 1, 2, 1, 1)
    start = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1)
    weight = torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1)
    loss = ball_loss(logits, label, start, torch.tensor([is_foreground]), weight)
    assert loss.item() == pytest.approx(np.log(2) + 1 - dice)  # cross-entropy log 2 everywhere


def test_ball_loss_takes_each_click_by_its_kind():
    torch.manual_seed(1)
    logits, label, start = torch.randn(2, 1, 3, 5, 7), *torch.randint(0, 2, (2, 2, 1, 3, 5, 7))
    kinds, weight = torch.tensor([True, False]), torch.rand(1, 3, 5, 7)
    one_by_one = [
        ball_loss(logits[[n]], label[[n]].float(), start[[n]], kinds[[n]], weight) for n in (0, 1)
    ]
    both = ball_loss(logits, label.float(), start, kinds, weight)
    assert both.item() == pytest.approx(sum(one.item() for one in one_by_one) / 2)
    turned = ball_loss(logits, label.float(), start, ~kinds, weight)
    mirrored = ball_loss(-logits, 1 - label.float(), 1 - start, kinds, weight)
    assert turned.item() == pytest.approx(mirrored.item())


@pytest.mark.parametrize("logit", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ball_loss_has_finite_gradients(logit, value):
    logits = torch.full((2, 1, 3, 5, 7), logit, requires_grad=True)
    label, kinds = torch.full_like(logits, value), torch.tensor([True, False])
    ball_loss(logits, label, 1 - label, kinds, torch.ones(1, 3, 5, 7)).backward()
    assert torch.isfinite(logits.grad).all()


class Truth(torch.nn.Module):
    """Answers with the first channel, which the test fills with the label."""

    def forward(self, x):
        return 20 * x[:, :1] - 10


def test_click_scores_rise_with_a_network_that_knows():
    label = torch.zeros(1, 32, 32, 12, dtype=torch.uint8)
    label[:, 10:22, 10:22, 4:8] = 1
    case = Prepared("a", torch.cat([label, label]).half(), label, (), label, label, True, np.eye(4))
    config = tiny().correction
    start = torch.zeros_like(label)
    scores = click_scores(LocalCorrection(Truth(), config), [case], {"a": start}, config, clicks=2)
    assert scores["dice_after_0"] == 0
    assert scores["dice_after_2"] > 0.95
    assert scores["harm_rate"] == 0
    assert region_study(case, config).image.shape == (2, 32, 32, 12)
