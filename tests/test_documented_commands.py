"""Every command of the documentation is run by a test, or listed with the reason why none does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from masks.command_line import choose_config
from tests.markdown import PAGES, Command, documented_commands, shell_commands
from tests.tracked_files import relative
from util.config import load_config
from util.errors import UserError
from util.files import PROJECT

# Datasets that users of the pages make.
USERS_DATASETS = {"mine", "labelled", "corrected"}

# What identifies a command (without .venv/bin/), all of it, and either the test that runs it, on less data, or the
# reason why none does.
COMMANDS = [
    (r"bash demo\.sh", "installs, then trains for minutes; its steps stand in other rows"),
    (r"(bash|sh) (tests/run\.sh|\.ci/run).*", "runs this test"),
    (r"python -m tests\.fuzz --minutes 10 images", "tests/fuzz/test_readers.py::test_the_command"),
    (r"uvx pre-commit install .*", "downloads a tool and changes the checkout's hooks"),
    (r"NPROC=2 bash train\.sh .*", "tests/test_several_processes.py::test_two_processes_learn_what_one_learns"),
    (r"NPROC=2 bash test\.sh .*", "tests/test_several_processes.py::test_processes_test_as_one"),
    (r"bash install\.sh", "tests/util/test_native.py::test_installing_survives_a_machine_without_compiler"),
    (r"bash (model|masks)/\w+/make\.sh", "tests/util/test_native.py::test_all_folders_build_without_cuda"),
    (r"python -m prepare shapes( --.*)?", "tests/prepare/shapes/test_shapes.py::test_layout_lists_and_formats"),
    (
        r"python -m prepare pascal --voc \S+\.tar --sbd \S+\.tgz",
        "tests/prepare/pascal/test_pascal.py::test_tar_files_give_the_same_as_folders",
    ),
    (
        r"python -m prepare pascal --voc VOC2012 --sbd benchmark_RELEASE",
        "tests/prepare/pascal/test_pascal.py::test_labels_are_vocs_where_it_has_one_else_sbds",
    ),
    (
        r"python -m prepare pascal --voc \S+ --sbd \S+ --subset \S+",
        "tests/prepare/pascal/test_pascal.py::test_a_subset_is_shrunk_from_the_same_labels",
    ),
    (
        r"python -m prepare pascal --download",
        "tests/prepare/pascal/test_pascal.py::test_downloads_are_fetched_checked_and_used",
    ),
    (
        r"python -m prepare coco --images \S+ --annotations \S+",
        "tests/prepare/coco/test_coco.py::test_layout_labels_and_lists",
    ),
    (
        r"python -m prepare folder \S+ --name \S+ --masks (~/masks|~/images|\S+\.json)( --colours \S+)?",
        "tests/prepare/folder/test_mask_sources.py::test_masks_of_every_kind_become_the_same_labels",
    ),
    (
        r"python -m prepare folder \S+ --name \S+( \[--masks MASKS\])?",
        "tests/test_commands.py::test_own_images_as_the_readme_has_them",
    ),
    (
        r"python -m prepare folder \S+ --name \S+ --masks ~/corrected",
        "tests/test_commands.py::test_a_few_masks_as_the_page_has_them",
    ),
    (
        r"bash (train|test)\.sh (mine|corrected) joint_mobilenetv2( \$IMAGENET)?",
        "tests/test_commands.py::test_a_few_masks_as_the_page_has_them",
    ),
    (
        r"python -m prepare subset \S+ --root \S+ --percent 20( --min-area \d+)?",
        "tests/prepare/test_subset.py::test_a_list_is_written_and_rare_classes_are_named",
    ),
    (
        r"python -m prepare check pascal( split0_resnet50 \$VOC| DATA\.data_root=\S+)?",
        "tests/prepare/check/test_check.py::test_processes_change_nothing",
    ),
    (
        r"python -m masks\.pretrain \S+ \S+\.safetensors( --size 64 --epochs 90 --queue 1024)?",
        "tests/test_commands.py::test_pretraining",
    ),
    (
        r"bash masks/create\.sh data pascal( .*)?\$(settings|PUBLISHED)",
        "tests/masks/test_create.py::test_published_masks_differ_and_say_so",
    ),
    (
        r"bash masks/create\.sh data \S+( \S+=\S+)*( \$IMAGENET| \$MINE)?",
        "tests/masks/test_create.py::test_the_script_runs_from_its_own_folder_under_sh",
    ),
    (
        r"torchrun --nproc_per_node \d -m masks\.create data pascal experiment=\S+",
        "tests/masks/test_create.py::test_two_processes_give_the_masks_of_one",
    ),
    (
        r"python -m masks\.report data pascal( experiment=.*| \$settings)?",
        "tests/masks/report/test_report_command.py::test_twice_gives_the_same_bytes_and_the_table",
    ),
    (
        r"bash train\.sh pascal ssl_resnet50 TRAIN\.backbone=vit_small_patch14_dinov2 .*",
        "needs a download; tests/model/frozen/test_backbone.py has transformers without it",
    ),
    (
        r"bash train\.sh pascal ssl_\w+ .*\$PUBLISHED .*",
        "tests/test_pipeline.py::test_a_published_network_is_tested_the_same_twice",
    ),
    (
        r"bash train\.sh \S+ ssl_\w+( \S+=\S+)*( \$IMAGENET| \$MINE| \$VOC)?",
        "tests/test_commands.py::test_own_images_as_the_readme_has_them",
    ),
    (
        r"bash train\.sh \S+ split0_\w+( \$VOC)?( \S+=\S+)*",
        "tests/test_pipeline.py::test_supervised_training_records_which_labels_it_used",
    ),
    (
        r"bash test\.sh \S+ split\S+( \$VOC)? --method (\w+|\$method)( \S+=\S+)*",
        "tests/test_pipeline.py::test_methods_without_training_run_in_the_same_loop",
    ),
    (
        r"bash test\.sh \S+ split\S+( \$VOC)? --every-photograph( \S+=\S+)*",
        "tests/test_pipeline.py::test_every_photograph_for_each_class",
    ),
    (
        r"bash test\.sh \S+ split\S+( \S+=\S+)* --inspect( \d+)+",
        "tests/test_pipeline.py::test_single_episodes_are_those_of_the_test",
    ),
    (
        r"bash test\.sh coco split\S+( TRAIN\.weight=\S+)? DATA\.val_list=\S+ TRAIN\.episodes=\d+( TRAIN\.\S+)?",
        "tests/test_commands.py::test_own_images_as_the_readme_has_them",
    ),
    (
        r"bash test\.sh \S+ split0_\w+ TRAIN\.shot=5 .*",
        "tests/test_commands.py::test_own_images_as_the_readme_has_them",
    ),
    (
        r"bash test\.sh \S+ split\S+( \$VOC)?( TRAIN\.\S+)+",
        "tests/test_commands.py::test_own_images_as_the_readme_has_them",
    ),
    (
        r"bash test\.sh \S+ split0_\w+( \$VOC)?",
        "tests/test_pipeline.py::test_a_published_network_is_tested_the_same_twice",
    ),
    (
        r"bash experiments\.sh \w+ \w+( --plan)?( --gpus [\d,]+)?( --only [\w,]+)?( \$VOC)?",
        "tests/test_experiments.py::test_the_unsupervised_network",
    ),
    (r"python -m engine\.report exp/pascal/\*", "tests/test_commands.py::test_own_images_as_the_readme_has_them"),
    (
        r"python -m engine\.compare \S+ --against \S+",
        "tests/engine/test_compare.py::test_the_command_prints_a_line_for_each_fold",
    ),
    (
        r"python -m model\.import_published IN\.pth \S*OUT\.(pth|safetensors)",
        "tests/test_commands.py::test_a_backbone_is_imported",
    ),
    (
        r"python predict\.py --checkpoint \S+( --support \S+ \S+){1,2} --query \S+( --output \S+)?",
        "tests/test_commands.py::test_own_images_as_the_readme_has_them",
    ),
    (
        r"python predict\.py --checkpoint \S+ --supports \S+ --query \S+( --(min-area|output) \w+)?( --write( \w+)+)?",
        "tests/test_predict.py::test_a_folder_for_each_class",
    ),
    (
        r"python predict\.py --method nearest --supports \S+ --query \S+( --backbone \S+ \S+)?",
        "tests/test_predict.py::test_a_method_without_training",
    ),
    (
        r"python export\.py (RUN|\S+ssl_mobilenetv2) --supports \S+ \S+\.onnx",
        "tests/commands/test_onnx_export.py::test_the_file_gives_what_pytorch_gives",
    ),
    (
        r"python export\.py out\.onnx --method nearest --supports \S+",
        "tests/test_export.py::test_the_example_of_the_page_runs_what_the_command_writes",
    ),
    (r"uv pip install .*", "installs packages"),
    (
        r"PYTHONPATH=\. cvat-cli .*",
        "needs a server of CVAT; tests/integrations/test_auto_annotation.py has the function without it",
    ),
    (
        r"bash web\.sh( --checkpoint \S+| --method nearest --backbone \S+ \S+)?",
        "tests/web/test_command.py::test_it_ends_with_a_line_and_leaves_nothing",
    ),
    (
        r"python -m benchmarks\.prediction_pictures \S+\.jpg \S+ \$VOC TRAIN\.weight=\S+",
        "tests/benchmarks/test_prediction_pictures.py::test_the_sheet_of_two_tests",
    ),
    (r"python -m benchmarks\.\w+( data pascal .*)?", "measures for minutes, on an idle machine"),
    (r"python -c \" import timm, torch .*", "needs a download"),
    (r"cut .* \| sha256sum", "tests/test_commands.py::test_the_checksum_of_a_list"),
]
_TEST = re.compile(r"(tests/\S+\.py)::(\w+)")


def test_every_command_is_run_or_has_a_reason_why_not() -> None:
    unknown, unused = [], {pattern for pattern, _ in COMMANDS}
    for page, command in _commands():
        text = command.text.replace(".venv/bin/", "")
        row = next((pattern for pattern, _ in COMMANDS if re.fullmatch(pattern, text)), None)
        if row is None:
            unknown.append(f"{relative(page)}:{command.line}: {command.text}")
        else:
            unused.discard(row)
    assert not unknown, "add a row to COMMANDS for\n" + "\n".join(unknown)
    assert not unused, "no command is left for\n" + "\n".join(unused)


def test_tests_that_run_commands_exist() -> None:
    missing = []
    for _, runner in COMMANDS:
        if match := _TEST.match(runner):
            path = PROJECT / match[1]
            tree = ast.parse(path.read_text() if path.is_file() else "")
            if match[2] not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
                missing.append(runner)
        elif runner.startswith("tests/"):
            missing.append(runner)
    assert not missing


def test_settings_of_documented_commands_are_accepted(tmp_path: Path) -> None:
    """Dataset, experiment and every key=value; ``shapes`` stands for datasets that users make."""
    read = 0
    for name in ("pascal", "shapes"):
        (tmp_path / name).mkdir()
    for page, command in _commands():
        script, *command_line = [word.removeprefix("-m") for word in command.arguments()[1:] if word != "-m"]
        command_line = ["shapes" if word in USERS_DATASETS else word for word in command_line]
        settings = [word for word in command_line[2:] if "=" in word]
        try:
            if script in ("train.sh", "test.sh"):
                load_config(command_line[0], command_line[1], settings)
            elif script in ("masks/create.sh", "masks.report", "benchmarks.masks") and command_line:
                choose_config(tmp_path, command_line[1], settings)
            else:
                continue
        except UserError as error:
            pytest.fail(f"{relative(page)}:{command.line}: {command.text}: {error}")
        read += 1
    assert read > 40


def _commands() -> list[tuple[Path, Command]]:
    return [(page, command) for page in PAGES for command in documented_commands(page.read_text())]


def test_commands_of_a_script_are_told_apart() -> None:
    script = """
VOC="a=1
    b=2"                                     # an assignment of two lines
for fold in 0 1; do
    sh test.sh "x; y" $VOC \\
        c=$fold  # a comment; not a command
    for method in near far; do sh test.sh ${method} 'it''s' # not this; done
    done
done; echo '#' && cat <<'END'
echo not a command
END
python -c "
print(1)"
"""
    commands = list(shell_commands(script))
    assert [(command.line, command.text) for command in commands] == [
        (5, 'sh test.sh "x; y" $VOC c=$fold'),
        (7, "sh test.sh ${method} 'it''s'"),
        (9, "echo '#'"),
        (9, "cat"),
        (12, 'python -c " print(1)"'),
    ]
    assert commands[0].arguments() == ["sh", "test.sh", "x; y", "a=1", "b=2", "c=0"]
    assert commands[1].arguments() == ["sh", "test.sh", "near", "its"]
