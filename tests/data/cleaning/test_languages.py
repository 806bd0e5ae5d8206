"""The language of articles."""

import pytest

from onion_lightning.data.cleaning.languages import detect_language, known_languages

TEXTS = {
    "en": "The egg won the vote on Tuesday, and the dog said that it had seen nothing.",
    "de": "Das Ei gewann am Dienstag die Wahl, und der Hund sagte, er habe nichts gesehen.",
    "fr": "L’œuf a remporté le vote mardi, et le chien a dit qu’il n’avait rien vu.",
    "es": "El huevo ganó la votación el martes, y el perro dijo que no había visto nada.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_text_is_detected(language):
    assert detect_language(TEXTS[language]) == language
    assert language in known_languages()
