from cbirbench.report.paper_layout import Footnotes, Note


def test_letters_follow_the_order_of_the_first_call_and_are_kept():
    footnotes = Footnotes()
    one, two, three = Note("one"), Note("two"), Note("one", "with a command")
    assert footnotes.letters_of(one) == ("a",)
    assert footnotes.letters_of(two, one) == ("a", "b")
    assert footnotes.letters_of(three) == ("c",)
    assert footnotes.letters_of() == ()
    assert footnotes.by_letter() == {"a": one, "b": two, "c": three}


def test_after_z_letters_double():
    footnotes = Footnotes()
    letters = [footnotes.letters_of(Note(str(i)))[0] for i in range(54)]
    assert letters[25:28] == ["z", "aa", "bb"] and letters[52:] == ["aaa", "bbb"]
    assert len(set(letters)) == 54
