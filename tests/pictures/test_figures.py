"""What is drawn is read back from the figure: numbers, captions, frames, colours."""

import io
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex

from blocks.pictures.components import PatchPca
from blocks.pictures.figures import sheet
from blocks.pictures.figures.attention import attention_figure, looks
from blocks.pictures.figures.components import as_colours, pca_figure
from blocks.pictures.figures.counts import confusion_figure
from blocks.pictures.figures.curves import curves_figure, differing
from blocks.pictures.figures.distance import distance_figure
from blocks.pictures.figures.examples import OTHER, SAME, Gallery, neighbours_figure, prototypes_figure
from blocks.pictures.figures.kernels import cut_out, kernels_figure
from blocks.pictures.figures.over_training import gates_figure, nonlocality_figure
from blocks.pictures.figures.rates import rates_figure
from blocks.pictures.similar import Examples

GRID = (2, 3)
PICTURE = torch.arange(8 * 12 * 3, dtype=torch.uint8).view(8, 12, 3)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def tile(figure, row, column, size, rows):
    """A mosaic's tile, RGB; a mosaic has equal rows, and 8 pixels between columns."""
    whole = torch.from_numpy(figure.axes[0].images[0].get_array())
    top, left = row * len(whole) // rows, column * (size[1] + 8)
    return whole[top : top + size[0], left : left + size[1], :3]


def maps():
    """A local layer without class token, and one with; every head looks at the patch of its own number."""
    local, later = torch.zeros(2, 6, 6), torch.zeros(2, 7, 7)
    for head in (0, 1):
        local[head, :, head] = 1
        later[head, :, 1 + head], later[head, :, 0] = 0.75, 0.25
    return {"blocks.0": local, "blocks.1": later}


def test_attention_of_a_patch_is_shown_in_all_layers_and_brightest_where_it_looks():
    figure = attention_figure(PICTURE, maps(), GRID, query=(1, 2))
    assert texts(figure) == ["1.00", "1.00", "0.75", "0.75"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["blocks.0", "blocks.1"]
    for row in (0, 1):
        for head in (0, 1):
            panel = tile(figure, row, head + 1, (64, 96), rows=2)
            brightness = panel.sum(-1)[::32, ::32]  # a pixel of each patch
            assert (brightness == brightness.max()).nonzero().tolist() == [[0, head]]
    frames = [(p.get_x(), p.get_y()) for p in figure.axes[0].patches]
    below = len(figure.axes[0].images[0].get_array()) // 2
    assert frames == [(63.5, 31.5), (63.5, below + 31.5)]


def test_attention_of_the_class_token_is_shown_where_it_takes_part():
    figure = attention_figure(PICTURE, maps(), GRID)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["blocks.1"]
    assert not figure.axes[0].patches
    with pytest.raises(ValueError, match=r"no layer has a class token to look from; name a patch: query=\(row"):
        attention_figure(PICTURE, {"blocks.0": maps()["blocks.0"]}, GRID)


def test_rows_of_the_map_are_those_of_the_query():
    weights = torch.rand(2, 8, 8)  # two prefix tokens
    assert torch.equal(looks(weights, GRID, (1, 0)), weights[:, 5, 2:].view(2, 2, 3))
    assert torch.equal(looks(weights, GRID, None), weights[:, 0, 2:].view(2, 2, 3))
    with pytest.raises(ValueError, match=r"query \(2, 0\) is no patch of a grid of 2 x 3"):
        looks(weights, GRID, (2, 0))
    with pytest.raises(ValueError, match="weights of 8 tokens are not of a grid of 2 x 2 patches"):
        looks(weights, (2, 2), None)


def records():
    gates = [[[0.7, 0.7], [0.7, 0.7]], [[0.9, 0.5], [0.2, 0.4]]]
    far = [[1.0, 2.0, 3.0], [1.5, 1.0, 2.5]]
    shared = {"gated_layers": [0, 2], "grid": [4, 4], "patch_size": 16}
    return [{"epoch": e, "gates": gates[e], "nonlocality": far[e], **shared} for e in (0, 1)]


def test_gates_are_drawn_by_layer_and_head_with_the_mean():
    figure = gates_figure(records())
    first, second = figure.axes
    assert [line.get_ydata().tolist() for line in second.lines] == [
        pytest.approx([0.7, 0.3]), pytest.approx([0.7, 0.2]), pytest.approx([0.7, 0.4])
    ]  # fmt: skip
    assert (first.get_title(), second.get_title()) == ("blocks.0", "blocks.2")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["mean", "head 0", "head 1"]
    with pytest.raises(ValueError, match="no record has gates"):
        gates_figure([{"epoch": 0, "gates": []}])


def test_nonlocality_is_a_line_a_layer_solid_where_it_is_gated():
    figure = nonlocality_figure(records())
    *layers, alike = figure.axes[0].lines
    assert [line.get_ydata().tolist() for line in layers] == [[1.0, 1.5], [2.0, 1.0], [3.0, 2.5]]
    assert [line.get_linestyle() for line in layers] == ["-", "--", "-"]
    wanted = [
        ((a - c) ** 2 + (b - d) ** 2) ** 0.5 for a in range(4) for b in range(4) for c in range(4) for d in range(4)
    ]
    assert alike.get_ydata()[0] == pytest.approx(sum(wanted) / 256)
    with pytest.raises(ValueError, match="no record has a non-locality"):
        nonlocality_figure([])


def test_distances_are_a_dot_a_head_and_a_line_of_means():
    found = {"before": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "after": torch.tensor([[2.0, 2.0], [2.0, 1.0]])}
    lines = distance_figure(found, (4, 4), 16).axes[0].lines
    assert lines[0].get_ydata().tolist() == [1.5, 3.5]
    assert [lines[i].get_ydata().tolist() for i in (1, 2)] == [[1.0, 3.0], [2.0, 4.0]]
    with pytest.raises(ValueError, match="no distances to draw"):
        distance_figure({}, (4, 4), 16)


def test_kernels_say_their_peak_and_gate_and_are_cut_where_nothing_is_lost():
    kernels = torch.zeros(1, 2, 9, 9)
    kernels[0, 0, 4, 4] = kernels[0, 1, 4, 7] = 1
    assert cut_out(kernels).shape == (1, 2, 7, 7)
    assert cut_out(kernels)[0, 1, 3, 6] == 1
    assert cut_out(torch.full((1, 1, 3, 9), 1 / 27)).shape == (1, 1, 3, 9)
    assert texts(kernels_figure(kernels, [4], torch.tensor([[0.25, 0.5]]))) == ["1.00\ngate 0.25", "1.00\ngate 0.50"]
    with pytest.raises(ValueError, match="there is no GPSA layer"):
        kernels_figure(kernels[:0], [])


def test_the_numbers_of_an_axis_of_shares_are_not_rounded_away():
    run = [{"kind": "epoch", "epoch": n, "val_top1": 0.87 + 0.006 * n} for n in range(20)]
    (axes,) = curves_figure({"a": run}).axes
    axes.set_yticks([0.875, 0.9, 0.925])
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["87.5%", "90.0%", "92.5%"]


def test_curves_are_a_panel_a_quantity_and_steps_are_left_out():
    run = [
        {"kind": "step", "epoch": 0.5, "loss": 9.0},
        {"kind": "epoch", "epoch": 1, "train_loss": 2.0, "val_loss": 3.0, "val_top1": 0.5, "val_images": 7},
        {"kind": "epoch", "epoch": 2, "train_loss": 1.0, "val_loss": None, "val_top1": 0.75, "val_images": 7},
    ]
    figure = curves_figure({"a": run, "b": run[:2]}, {"a": {"lr": 1, "depth": 2}, "b": {"lr": 3, "depth": 2}})
    loss, top1, *_ = figure.axes
    assert (loss.get_title(), top1.get_title()) == ("loss", "top1")
    drawn = [(to_hex(line.get_color()), line.get_linestyle(), line.get_ydata().tolist()) for line in loss.lines]
    assert drawn[:2] == [("#0072b2", "--", [2.0, 1.0]), ("#0072b2", "-", [3.0])]  # null: no number that epoch
    assert {line.get_color() for line in loss.lines} == {"#0072b2", "#e69f00"}
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["training", "validation", "a: lr 1", "b: lr 3"]
    with pytest.raises(ValueError, match="no epoch of the runs"):
        curves_figure({"a": run[:1]})


def test_averages_and_teachers_have_dashes_of_their_own():
    run = [{"epoch": e, "train_loss": 1.0, "ema_knn20": 0.5, "teacher_knn20": 0.6} for e in (1, 2)]
    figure = curves_figure({"a": run})
    assert [line.get_linestyle() for line in figure.axes[1].lines] == [":", "-."]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "training", "validation of the weights' average", "validation of the teacher", "a"
    ]  # fmt: skip
    figure.canvas.draw()
    assert "%" in figure.axes[1].get_yticklabels()[0].get_text()


def test_settings_that_differ_are_those_that_some_run_has_otherwise():
    settings = {"a": {"lr": 1, "depth": 2, "seed": None}, "b": {"lr": 1, "depth": 3, "seed": None, "ema": 0.9}}
    assert differing(settings) == {"a": {"depth": 2}, "b": {"depth": 3, "ema": 0.9}}
    assert differing({"a": {"lr": 1}}) == {"a": {}}


def gallery(**known):
    return Gallery(torch.randint(256, (5, 8, 8, 3), dtype=torch.uint8), **known)


def test_neighbours_stand_right_of_their_query_framed_by_their_class():
    shown = gallery(labels=torch.tensor([0, 1, 0, 1, 1]), classes=["cat", "dog"])
    places, similarities = torch.tensor([[2, 3], [0, 4]]), torch.tensor([[0.9, 0.25], [0.75, 0.5]])
    figure = neighbours_figure(shown, torch.tensor([0, 1]), places, similarities)
    assert texts(figure) == ["cat", "cat\n0.90", "dog\n0.25", "dog", "cat\n0.75", "dog\n0.50"]
    assert [to_hex(p.get_edgecolor()) for p in figure.axes[0].patches] == [SAME, OTHER, OTHER, SAME]
    for row, column, place in [(0, 0, 0), (0, 1, 2), (0, 2, 3), (1, 0, 1), (1, 2, 4)]:
        drawn = (255 * tile(figure, row, column, (96, 96), rows=2)[::12, ::12]).round().byte()
        assert torch.equal(drawn, shown.pictures[place])


def test_without_labels_there_are_no_frames():
    figure = neighbours_figure(gallery(), torch.tensor([0]), torch.tensor([[2, 3]]), torch.tensor([[0.9, 0.25]]))
    assert texts(figure) == ["", "0.90", "0.25"]
    assert not figure.axes[0].patches


def test_prototypes_are_rows_that_say_how_much_they_are_used():
    found = Examples(torch.tensor([7, 3]), torch.tensor([0.6, 0.4]), torch.tensor([[0, 1], [4, 2]]), torch.ones(2, 2))
    figure = prototypes_figure(gallery(labels=torch.arange(5)), found)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["no. 7\n60.0%", "no. 3\n40.0%"]
    assert texts(figure) == ["0\n1.00", "1\n1.00", "4\n1.00", "2\n1.00"]


def test_components_are_stretched_over_all_images_alike():
    scores = torch.linspace(-1, 3, 2 * 4 * 4 * 3).view(2, 4, 4, 3)
    colours = as_colours(scores)
    assert (colours[0, 0, 0].tolist(), colours[1, 3, 3].tolist()) == ([0, 0, 0], [1, 1, 1])
    assert colours[0].max() < 0.5 < colours[1].min()
    figure = pca_figure(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), PatchPca(scores, torch.tensor([0.5, 0.25, 0.1])))
    assert figure.axes[0].get_xlabel() == "red, green, blue: 50%, 25%, 10% of the patch tokens' variance"
    drawn = tile(figure, 1, 1, (96, 96), rows=2)[::24, ::24]
    torch.testing.assert_close(drawn, colours[1], rtol=0, atol=0.5 / 255 + 1e-6)
    with pytest.raises(ValueError, match="2 components are not the 3 of red, green and blue"):
        pca_figure(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), PatchPca(scores[..., :2], torch.zeros(2)))


def test_the_confusion_matrix_is_shaded_by_shares_of_its_rows():
    figure = confusion_figure(torch.tensor([[3, 1], [0, 0]]), ["cat", "dog"])
    assert figure.axes[0].images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert texts(figure) == ["3", "1"]
    assert not confusion_figure(torch.eye(30)).axes[0].texts
    with pytest.raises(ValueError, match="1 names for 2 classes"):
        confusion_figure(torch.eye(2), ["cat"])


def test_rates_have_a_dot_a_run_and_a_line_through_the_means():
    loss, top1 = torch.tensor([[1.0, 3.0], [0.5, 0.5]]), torch.tensor([[0.5, 0.25], [0.75, 0.75]])
    figure = rates_figure([1e-3, 1e-2], loss, top1)
    drawn = [[line.get_ydata().tolist() for line in one.lines] for one in figure.axes]
    assert drawn[0] == [[1.0, 0.5], [3.0, 0.5], [2.0, 0.5]]
    assert drawn[1] == [[50.0, 75.0], [25.0, 75.0], [37.5, 75.0]]
    assert {one.get_xscale() for one in figure.axes} == {"log"}


def test_ink_is_the_page_s_and_pyplot_is_not_touched():
    with matplotlib.rc_context({"text.color": "#abcdef"}):
        figure = gates_figure(records())
    assert to_hex(figure.axes[0].lines[0].get_color()) == "#abcdef"
    figure.savefig(io.BytesIO(), format="png")
    code = "".join(path.read_text() for path in Path(sheet.__file__).parents[1].rglob("*.py"))
    assert "matplotlib" in code
    assert "pyplot" not in code


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vitmason\[recipes\]'"):
        confusion_figure(torch.eye(2))
