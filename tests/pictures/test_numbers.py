"""Principal components, nearest images and the confusion matrix, beside slow references."""

import pytest
import torch
from sklearn.decomposition import PCA

from blocks.pictures.components import patch_pca, principal
from blocks.pictures.counts import confusion
from blocks.pictures.similar import nearest, neighbours, prototype_examples
from tests.pictures.test_attention_maps import MODELS, disturbed, images


def rows(count, width=5, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_components_are_scikit_learn_s_but_for_their_signs():
    found, explained = principal(rows(20) + 3, 3)
    reference = PCA(3).fit(rows(20) + 3)
    wanted = torch.from_numpy(reference.transform(rows(20) + 3))
    torch.testing.assert_close(found * (found * wanted).sum(0).sign(), wanted)
    assert explained.tolist() == pytest.approx(reference.explained_variance_ratio_.tolist())


def test_a_component_s_largest_loading_is_positive():
    tall = torch.tensor([[0.0, 0.0], [1.0, -3.0], [2.0, -6.0]])
    assert principal(tall, 1)[0].flatten().argmax() == 0  # the basis is (-1, 3), and not (1, -3)
    assert torch.equal(principal(tall, 1)[0], principal(tall.clone(), 1)[0])


@pytest.mark.parametrize("name", ["vit", "distilled convit", "vit, mean over patches"])
def test_patches_of_all_images_share_one_basis_and_prefix_tokens_have_none(name):
    model, params = MODELS[name], disturbed(MODELS[name])
    found = patch_pca(model, params, images())
    tokens = model.trunk(params, images())[:, -12:]
    scores, explained = principal(tokens.flatten(0, 1), 3)
    assert found.scores.shape == (2, 3, 4, 3)
    torch.testing.assert_close(found.scores.flatten(0, 2), scores)
    torch.testing.assert_close(found.explained, explained)


def test_more_components_than_channels_are_an_error():
    with pytest.raises(ValueError, match="9 components of 4 rows of 5; ask for 1 to 4"):
        principal(rows(4), 9)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def test_nearest_are_the_largest_cosines_in_falling_order():
    queries, features = rows(3), 7 * rows(11, seed=1)
    similarities, places = nearest(queries, features, 4)
    for query, found, where in zip(queries, similarities.tolist(), places.tolist(), strict=True):
        every = sorted(((cosine(query, f), i) for i, f in enumerate(features)), reverse=True)[:4]
        assert where == [i for _, i in every]
        assert found == pytest.approx([c for c, _ in every])


def test_a_sample_is_not_its_own_neighbour_even_where_it_has_a_twin():
    features = torch.cat((rows(4), rows(4)))
    similarities, places = neighbours(features, torch.tensor([1, 6]), 7)
    assert places[:, 0].tolist() == [5, 2]
    assert similarities[:, 0].tolist() == pytest.approx([1, 1])
    assert all(query not in found for query, found in zip((1, 6), places.tolist(), strict=True))
    assert neighbours(features, torch.tensor([1]), 100)[1].shape == (1, 7)


def test_prototypes_come_by_their_use_with_the_images_nearest_to_them():
    prototypes = torch.eye(4)
    embeddings = torch.tensor([[0, 2.0, 0.1, 0], [0, 1, 0, 0], [0.1, 0, 0, 5], [0, 3, 0, 0.5]])
    found = prototype_examples(prototypes, embeddings, 2, most=3)
    assert found.prototypes.tolist() == [1, 3, 0]
    assert found.shares.tolist() == [0.75, 0.25, 0]
    assert found.places[:2].tolist() == [[1, 0], [2, 3]]
    assert found.similarities[0].tolist() == pytest.approx([1, 2 / 4.01**0.5])
    every = prototype_examples(prototypes[[1, 0, 2, 3]], embeddings[:1], 1, most=9)
    assert every.prototypes.tolist() == [0, 1, 2, 3]  # of equally used ones the earlier comes first
    assert every.shares.tolist() == [1, 0, 0, 0]
    assert every.places.shape == (4, 1)


@pytest.mark.parametrize(
    "find", [lambda n: nearest(rows(2), rows(3), n), lambda n: neighbours(rows(3), torch.tensor([0]), n)]
)
def test_nothing_to_find_is_an_error(find):
    with pytest.raises(ValueError, match="0 is not a number of things to find"):
        find(0)


def test_confusion_counts_pairs_true_class_by_row():
    labels, predicted = torch.tensor([0, 0, 2, 1, 2, 2]), torch.tensor([0, 1, 2, 1, 0, 2])
    assert confusion(labels, predicted, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert confusion(labels[:2], predicted[:2], 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert confusion(labels[:0], predicted[:0], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "predicted", "what"), [([1, 3], [0, 0], "labels are 1"), ([0, 0], [-1, 2], "predictions are -1")]
)
def test_what_is_no_class_is_an_error(labels, predicted, what):
    with pytest.raises(ValueError, match=f"{what} to .*not among 3 classes"):
        confusion(torch.tensor(labels), torch.tensor(predicted), 3)
