"""The content of preview.json."""

import json

from onion_lightning.preview.result import gather_preview


def test_the_keys_of_the_json_file_and_their_order_are_stable(preview):
    content = json.loads(preview.to_json())
    assert list(content) == [
        "written_by",
        "settings",
        "read",
        "splits",
        "figures",
        "rows",
        "longest",
        "near_duplicates",
        "languages",
        "characters",
        "dropped",
        "cleaned",
    ]
    assert list(content["figures"]) == ["rows", "tokens", "supervised", "without_eos", "padding"]
    keys = ["headline", "row", "step", "input_ids", "supervised", "eos", "cut_tokens", "padding", "changes"]
    assert all(list(row) == keys for row in content["rows"])
    assert all(list(row) == ["headline", "full_length", "length"] for row in content["longest"])
    assert all(list(row) == ["split", "headline"] for group in content["near_duplicates"] for row in group)
    assert all(list(one) == ["character", "name", "rows", "tokens", "spelled"] for one in content["characters"])
    assert all(list(one) == ["rows", "examples"] for one in content["dropped"].values())


def test_every_row_that_was_read_is_counted(preview):
    content = json.loads(preview.to_json())
    dropped = sum(one["rows"] for one in content["dropped"].values())
    assert content["read"] == sum(content["splits"].values()) + dropped
    assert sum(map(sum, (row["supervised"] for row in content["rows"]))) == content["figures"]["supervised"]


def test_only_as_many_rows_as_were_asked_for_are_shown(data):
    assert len(gather_preview(data, 2).rows) == 2
