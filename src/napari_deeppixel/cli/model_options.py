"""What can be typed after ``compare`` and ``models``; no torch here."""

import argparse

COMPARE = """\
Compare models on the same annotated images: the one that training began with (base), the one in use
(current) and a new one; and tell whether the new one is better. It is if AP rises by 0.005 or more,
accuracy at IoU 0.5 does not fall by more than 0.01, and in 80 % of 1,000 draws of the images it is
better. DATA is what 'evaluate' takes. NEW is the folder of a training run, a model by name, or a
file.
"""
COMPARE_MORE = """\
With -o, what each model found is kept beside the file, so that the window can draw what is right,
wrong and missed. The exit code is 0 whatever comes out: --json says is_better.
"""
MODELS = """\
The models that you trained or were given: which there are, where they come from, and which one the
window uses. Without an action, they are listed.
"""
MODELS_MORE = """\
The window offers the model in use first. The commands take nuclei unless -m names another, so that
a script does the same on every day; '-m used' stands for the model in use.
The models are in a folder of their own, which the variable NAPARI_DEEPPIXEL_MODELS overrides; what
is removed is kept in its folder removed/.
"""


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``compare`` takes."""
    add = parser.add_argument
    add("data", metavar="DATA", help="dataset, COCO file, or folder of annotated images")
    add("new", metavar="NEW", help="folder of a run, name or file of the new model")
    add("--current", metavar="M", help="model to be replaced; default: the one in use")
    add("--base", metavar="M", help="default: the one that the training of NEW began with")
    add(
        "--split",
        choices=("train", "val", "test"),
        help="which images; default: val where DATA has splits",
    )
    add("-o", "--output", metavar="FILE", help="write the comparison to FILE.json")


def add_models_options(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``models``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, summary: str, *more: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=summary, description=summary.capitalize() + ".")
        # not set unless it is typed here: it may have been typed before the action
        made.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_JSON)
        for argument in more:
            made.add_argument(argument, metavar=argument.upper())
        return made

    action("list", "list the models and where they come from")
    action("use", "use a model, of yours or one that comes with the program", "name")
    action("roll-back", "use the model again that was used before")
    action("rename", "give a model another name; its weights stay as they are", "old", "new")
    export = action("export", "write a model to one file, to be imported elsewhere", "name", "file")
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    imported = action("import", "take a weights file in, once it is seen to load", "file")
    imported.add_argument("--name", metavar="NAME", help="default: the file's")
    imported.add_argument("--use", action="store_true", help="use it from now on")
    action("remove", "take a model out; its file is kept in removed/", "name")


_JSON = "machine-readable results, and nothing else, on stdout"
