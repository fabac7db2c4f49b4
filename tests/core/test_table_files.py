"""Tables are read as spreadsheets and other programs save them."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan.core.errors import DataError
from medgan.core.table_files import read_table, table_text

ROWS = [{"image": "a.nii.gz", "age": "5"}, {"image": "b.nii.gz", "age": ""}]
SAVED = {
    "commas": "image,age\na.nii.gz,5\nb.nii.gz,\n",
    "semicolons": "image;age\r\na.nii.gz;5\r\nb.nii.gz;\r\n",
    "tabs": "image\tage\na.nii.gz\t5\nb.nii.gz\t\n",
    "spaces around": "image , age\n a.nii.gz , 5 \nb.nii.gz,\n",
    "quotes": '"image";"age"\n"a.nii.gz";"5"\n"b.nii.gz";""\n',
    "Excel's first line": "sep=;\r\nimage;age\r\na.nii.gz;5\r\nb.nii.gz;\r\n",
    "Excel's first line in quotes": '"sep=;"\nimage;age\na.nii.gz;5\nb.nii.gz;\n',
    "Excel's first line with a tab": "sep=\t\nimage\tage\na.nii.gz\t5\nb.nii.gz\t\n",
    "empty rows": "\nimage,age\n\na.nii.gz,5\n,\nb.nii.gz,\n,,,\n",
    "a separator at each end": "image;age;\na.nii.gz;5;\nb.nii.gz;;\n",
    "numbers of rows": ",image,age\n0,a.nii.gz,5\n1,b.nii.gz,\n",
    "a last cell left out": "image,age\na.nii.gz,5\nb.nii.gz\n",
    "capitals": "Image,age\na.nii.gz,5\nb.nii.gz,\n",
    "all capitals": "IMAGE;age\na.nii.gz;5\nb.nii.gz;\n",
}


@pytest.mark.parametrize("ending", ["csv", "TSV"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("saved", SAVED)
def test_a_table_is_read_whatever_saved_it(tmp_path, saved, encoding, ending):
    path = tmp_path / f"table.{ending}"
    path.write_bytes(SAVED[saved].encode(encoding))
    assert read_table(path, "the table", ("image",)) == ROWS


def test_a_comma_in_a_quoted_cell_or_in_a_column_separates_nothing(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('image,note\na.nii.gz,"one, two; three"\n')
    assert read_table(path)[0]["note"] == "one, two; three"
    path.write_text("image;weight, kg\na.nii.gz;70,5\n")
    assert read_table(path, known=("image",)) == [{"image": "a.nii.gz", "weight, kg": "70,5"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"image,age\na.nii.gz,44,5\n", "line 2 has more cells.*quotes"),
        (b"sep=,\nimage,age\n\na.nii.gz,44,5\n", "line 4 has more cells"),
        (b"image,age,image\na,1,b\n", "two columns have one name"),
        (b"image,Image\na,b\n", "two columns have one name"),
        ("image,näme\na,b\n".encode("latin-1"), "save it as UTF-8"),
        (b'image,age\n"a.nii.gz,1\n' + b"x" * 200_000, "is no CSV"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_bytes(text)
    with pytest.raises(DataError, match=f"E_DATASET the list: .*{message}"):
        read_table(path, "the list", ("image",))


CELLS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)


@given(st.lists(st.tuples(CELLS.filter(bool), CELLS), min_size=1), st.sampled_from(",\t"))
def test_what_is_written_is_read(tmp_path_factory, rows, separator):
    path = tmp_path_factory.mktemp("t") / ("t.tsv" if separator == "\t" else "t.csv")
    expected = [{"image": image, "note": note} for image, note in rows]
    path.write_text(table_text(expected, separator=separator), encoding="utf-8")
    assert read_table(path, known=("image", "note")) == expected
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file, delimiter=separator)) == expected


def test_columns_are_written_though_there_are_no_rows():
    assert table_text([]) == ""
    assert table_text([], ("a", "b")) == "a,b\n"
    assert table_text([{"b": 1, "c": 2}], ("a", "b"), "\t") == "a\tb\n\t1\n"
