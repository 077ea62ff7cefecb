"""nltk's own punkt with the parameters that ship, so that no test downloads any."""

import gzip
import json

from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

from handpick.bundled import punkt_path


def _nltks_punkt() -> PunktSentenceTokenizer:
    found, parameters = json.loads(gzip.decompress(punkt_path().read_bytes())), PunktParameters()
    parameters.abbrev_types = set(found["abbreviations"])
    parameters.collocations = {tuple(pair) for pair in found["collocations"]}
    parameters.sent_starters = set(found["starters"])
    parameters.ortho_context.update(found["contexts"])
    return PunktSentenceTokenizer(parameters)


NLTKS_PUNKT = _nltks_punkt()
