"""The rules of `controller.space.SearchSpace`. An implementation subclasses and supplies `space`."""

import json
import random

import pytest

from child_trainer.architectures.architecture import Architecture
from controller.decisions import Choice, InvalidTokens, check_tokens, offsets, uniform
from controller.space import SearchSpace, first_tokens, genotypes_of, motifs_of, mutated_tokens

SAMPLES = 50
LATER = 1_000_000
"""Completed children after which any schedule has reached its end."""


class SearchSpaceContract:
    @pytest.fixture
    def space(self) -> SearchSpace:
        raise NotImplementedError

    def test_every_sample_decodes_to_a_valid_architecture(self, space: SearchSpace) -> None:
        rng = random.Random(0)
        for completed in (0, LATER):
            for _ in range(SAMPLES):
                tokens = uniform(space.decisions(completed), rng)
                architecture = space.decode(tokens)
                assert architecture.kind == space.kind
                assert architecture == space.decode(list(tokens))
                assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture

    def test_first_samples_and_their_mutations_are_samples(self, space: SearchSpace) -> None:
        rng = random.Random(0)
        for completed in (0, LATER):
            tokens = first_tokens(space, completed, rng)
            for _ in range(SAMPLES):
                assert space.decode(tokens).kind == space.kind
                if space.decisions(completed):  # a space without any draws and mutates its samples itself
                    check_tokens(space.decisions_of(len(tokens)), tokens)
                tokens = mutated_tokens(space, tokens, rng)

    def test_first_samples_and_mutations_depend_on_the_generator_alone(self, space: SearchSpace) -> None:
        first, again = (first_tokens(space, 0, random.Random(1)) for _ in range(2))
        assert first == again
        mutations = {mutated_tokens(space, first, random.Random(seed)) for seed in range(SAMPLES)}
        assert len(mutations) > 1
        assert mutated_tokens(space, first, random.Random(2)) == mutated_tokens(space, list(first), random.Random(2))

    def test_motifs_and_genotypes_have_names_and_depend_on_the_tokens_alone(self, space: SearchSpace) -> None:
        tokens = first_tokens(space, 0, random.Random(0))
        motifs, genotypes = motifs_of(space, tokens), genotypes_of(space, tokens)
        assert all(name and isinstance(motif, Architecture) for name, motif in motifs.items())
        assert all(name and isinstance(text, str) and text for name, text in genotypes.items())
        assert motifs_of(space, list(tokens)) == motifs
        assert genotypes_of(space, list(tokens)) == genotypes

    def test_samples_differ(self, space: SearchSpace) -> None:
        rng = random.Random(0)
        samples = [first_tokens(space, 0, rng) for _ in range(SAMPLES)]
        assert len({space.decode(tokens).id for tokens in samples}) > 1

    def test_the_number_of_tokens_tells_the_sequence(self, space: SearchSpace) -> None:
        for completed in (0, LATER):
            decisions = space.decisions(completed)
            assert space.decisions_of(offsets(decisions)[-1]) == decisions

    def test_a_wrong_number_of_tokens_is_refused(self, space: SearchSpace) -> None:
        with pytest.raises(InvalidTokens):
            space.decode([0] * (offsets(space.decisions(LATER))[-1] + 1))

    def test_a_token_out_of_range_is_refused(self, space: SearchSpace) -> None:
        tokens = list(uniform(space.decisions(0), random.Random(0)))
        for wrong in (-1, 1000):
            with pytest.raises(InvalidTokens, match=str(wrong)):
                space.decode([wrong, *tokens[1:]])

    def test_the_vocabulary_has_every_choice(self, space: SearchSpace) -> None:
        for completed in (0, LATER):
            choices = [d for d in space.decisions(completed) if isinstance(d, Choice)]
            assert len({d.name for d in choices}) == len(choices)
            assert {d.name: len(d.options) for d in choices}.items() <= space.choice_sizes().items()
