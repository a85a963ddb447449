"""Which seeds are open, and what they become."""

from argparse import Namespace

from mmood.settings.seeds import resolved_seeds, stream_seeds, with_seeds


def config(seed):
    return Namespace(
        seed_everything=seed,
        model=Namespace(
            init_args=Namespace(
                training=Namespace(seed=None, shots=4),
                scores={"a": Namespace(init_args=Namespace(seed=None)), "b": Namespace(init_args=Namespace(seed=9))},
                parts=[{"seed": None}],
            )
        ),
        data=Namespace(loader=Namespace(seed=0)),
        evaluation=Namespace(stream=Namespace(seeds=None)),
        trainer=Namespace(seed=None),
    )


def test_open_seeds_follow_and_others_stay():
    given = config(2)
    found = with_seeds(given)
    assert found.model.init_args.training.seed == 2
    assert found.model.init_args.scores["a"].init_args.seed == 2
    assert found.model.init_args.scores["b"].init_args.seed == 9
    assert found.model.init_args.parts == [{"seed": 2}]
    assert found.data.loader.seed == 0
    assert found.evaluation.stream.seeds == (6, 7, 8)
    assert found.trainer.seed is None
    assert given == config(2)
    assert resolved_seeds(given) == {
        "evaluation.stream.seeds": (6, 7, 8),
        "model.init_args.training.seed": 2,
        "model.init_args.scores.a.init_args.seed": 2,
        "model.init_args.parts.0.seed": 2,
    }
    assert resolved_seeds(found) == {}


def test_without_a_seed_it_is_0():
    for nothing in (None, False, True):
        assert resolved_seeds(config(nothing))["model.init_args.training.seed"] == 0
    assert resolved_seeds({"data": {"loader": {"seed": None}}}) == {"data.loader.seed": 0}


def test_streams_of_different_runs_have_nothing_in_common():
    drawn = [seed for run in range(20) for seed in stream_seeds(run)]
    assert drawn == list(range(60))
