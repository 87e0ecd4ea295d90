"""Next Sample of a server whose studies are scored: who is offered what."""

import numpy as np
import requests
from serving import AFFINES, save, tumor_image

from clickseg.choosing.cached import RULES, Entry, hashes_of, write_entry
from clickseg.choosing.scores import StudyScores
from clickseg_app.background import FOLDER
from clickseg_app.strategy import ANONYMOUS


def test_next_sample_goes_by_the_scores(another_server, tmp_path, weights):
    studies = tmp_path / "studies"
    affine = AFFINES["ras"]
    image = tumor_image(affine, np.random.default_rng(0))
    models = hashes_of(weights, weights)
    for name, doubt in {"a": 0.2, "b": 0.9, "c": 0.5}.items():
        save(studies / f"{name}.nii.gz", image, affine)
        save(studies / "t2" / f"{name}.nii.gz", image, affine)
        entry = Entry(RULES, "as it was", models, StudyScores(doubt, 1 - doubt, None))
        write_entry(studies / FOLDER, name, entry)
    server = another_server(studies).wait()

    def ask(strategy, **params):
        answer = requests.post(f"{server.url}/activelearning/{strategy}", json=params, timeout=10)
        assert answer.status_code == 200
        return answer.json()

    first = ask("uncertainty", client_id="one")
    assert first["id"] == "b"
    assert first["path"] == str(studies / "b.nii.gz")
    assert ask("random", client_id="two")["id"] == "c"
    assert ask("disagreement")["id"] == "a"
    noted = requests.get(f"{server.url}/datastore/image/info?image=a", timeout=10).json()
    assert noted["strategy"]["disagreement"]["client_id"] == ANONYMOUS
    assert ask("first", client_id="four") == {}  # all are taken: as an empty pool
    assert ask("random", client_id="two")["id"] == "c"
    listed = requests.get(f"{server.url}/datastore/?output=all", timeout=10).json()["objects"]
    assert set(listed) == {"a", "b", "c"}
