from cbirbench.report.paper_architecture import architecture_table
from cbirbench.report.paper_runs import merge

LEVELS = {"simsiam-hu-clip": {"map@5": [0.9]}}
RESNET50 = 23_508_032


def row(table, label):
    return [cell.text for cell in dict(table.rows)[label]]


def test_the_runs_backbone_parameters_and_optimiser_beside_the_papers(finished):
    table = architecture_table(merge([finished("a", LEVELS, parameters={"simsiam-hu-clip": RESNET50})]))
    assert table.number == 1
    assert row(table, "this run, paper profile") == [
        "resnet50.tv_in1k",
        "23,508,032",
        "ReLU",
        # 0.05 times 32/256 is the .00625 of the protocol.
        "SGD, momentum 0.9, weight decay 0.0001, learning rate 0.05 × 32/256 = 0.00625, batch 32, 250 epochs",
    ]
    assert row(table, "reported by the paper") == ["ResNet50", "~23 million", "ReLU", "SGD"]
    assert [label for label, _ in table.rows] == ["this run, paper profile", "reported by the paper"]


def test_each_profile_is_a_row(finished):
    released = finished("b", {"simsiam-hu-clip": {"map@4": [0.9]}}, profile="released-code")
    table = architecture_table(merge([finished("a", LEVELS), released]))
    assert [label for label, _ in table.rows][1] == "this run, released-code profile"


def test_what_the_files_do_not_hold_is_a_dash_that_says_so(finished):
    run = finished("a", LEVELS)
    run.summary["extractors"][0]["options"]["backbone"] = "vit_tiny_patch16_224"
    table = architecture_table(merge([run]))
    (_, cells), _ = table.rows
    assert [cell.text for cell in cells[:3]] == ["vit_tiny_patch16_224", "–", "–"]
    assert [table.footnotes[cell.letters[0]].text for cell in cells[1:3]] == [
        "The run's folder keeps no weights to count.",
        "The run's files do not hold it.",
    ]


def test_without_ours_a_command_stands_in_its_place(finished):
    table = architecture_table(merge([finished("a", {"hog": {"map@5": [0.7]}})]))
    assert row(table, "this run, paper profile") == ["–"] * 4
    (note,) = table.footnotes.values()
    assert note.command == "cbirbench run phantom --extractors simsiam-hu-clip --profile paper"


def test_changes_to_the_method_stand_in_the_title(finished):
    changed = [
        ("simsiam-hu-clip", "epochs", 250, 5),
        ("hu-clip", "narrow", [50, 150], [0, 100]),
        ("relax", "masks", 1, 2),
    ]
    table = architecture_table(merge([finished("a", LEVELS, departures=changed)]))
    assert table.title.endswith("profile paper (changed: epochs, narrow)")
