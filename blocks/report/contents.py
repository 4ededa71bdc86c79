"""The sections of a report in their order."""

from blocks.report import compared, facts, inside, labelled, locality, neighbours, result
from blocks.report.chapters import Chapter

CHAPTERS = (
    Chapter(
        "Result",
        "",
        {"Warnings": result.told, "Curves": compared.curves, "Metrics": result.metrics, "Course": result.duration},
    ),
    Chapter(
        "Compared",
        "The runs side by side. Everything after this section is about the first alone.",
        {"Settings that differ": compared.settings, "Metrics of all": compared.metrics},
        fits=lambda material: bool(material.others),
    ),
    Chapter(
        "Attention",
        "What the trunk looks at.",
        {
            "Attention on an image": inside.attention,
            "Attention distance": inside.distance,
            "Principal components": inside.patches,
        },
        fits=inside.looks,
    ),
    Chapter(
        "Locality",
        "The gated layers mix attention by content with attention by position, which starts as a convolution.",
        {
            "Gates": locality.gates_over_training,
            "Non-locality": locality.nonlocality_over_training,
            "Kernels before training": locality.kernels_before,
            "Kernels after training": locality.kernels_after,
        },
        fits=locality.is_gated,
    ),
    Chapter(
        "Right and wrong",
        "What the model says of images.",
        {"Confusion matrix": labelled.confusions, "Worst mistakes": labelled.worst, "Surest answers": labelled.best},
        fits=lambda material: material.classifies,
    ),
    Chapter(
        "Alike",
        "What the features hold to be alike.",
        {"Nearest neighbours": neighbours.alike, "Prototypes": neighbours.prototypes},
        fits=lambda material: not material.classifies,
    ),
    Chapter(
        "The run",
        "",
        {
            "Settings": facts.settings,
            "Environment": facts.environment,
            "Parameters": facts.parameters,
            "Files": facts.files,
        },
    ),
)
