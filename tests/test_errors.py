"""Every error says who, where and what next, and a program can look at its parts."""

from __future__ import annotations

import copy
import errno
import os
import pickle
from typing import Any

import pytest

import tocsin
from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    AlreadyRegisteredError,
    AsyncCallbackError,
    AtomicChain,
    InvalidResultError,
    InvalidTypeError,
    InvalidValueError,
    NotifierBlock,
    NotRegisteredError,
    PriorityInUseError,
    RegistrationError,
    RegistrationVetoedError,
    RollbackError,
    TocsinError,
    VetoError,
    notifier_from_errno,
    raise_for_result,
)

from .flavours import ASYNC, FLAVOURS, SYNC, maybe_await

pytestmark = pytest.mark.anyio

every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)


def hear(event: Any, data: Any) -> None:
    """Do nothing: a callback for tests in which it is not the callback that matters."""


async def ahear(event: Any, data: Any) -> None:
    """Do nothing, asynchronously."""


# What a result becomes.


@pytest.mark.parametrize("result", [NOTIFY_DONE, NOTIFY_OK, NOTIFY_STOP, 0x8000])
def test_a_result_without_an_errno_is_given_back(result: int) -> None:
    assert raise_for_result(result) is result


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY, errno.EINVAL])
def test_a_result_with_an_errno_is_raised_as_a_veto(code: int) -> None:
    result = notifier_from_errno(-code)
    with pytest.raises(VetoError) as caught:
        raise_for_result(result)
    veto = caught.value
    assert isinstance(veto, OSError)
    assert (veto.errno, veto.result, veto.reason) == (code, result, os.strerror(code))


def test_an_errno_without_a_stop_bit_is_raised_too() -> None:
    with pytest.raises(VetoError) as caught:
        raise_for_result(23)
    assert (caught.value.errno, caught.value.result) == (errno.EINVAL, 23)


def test_a_bare_negative_is_refused_with_the_right_call() -> None:
    with pytest.raises(InvalidResultError, match=r"did you mean notifier_from_errno\(-16\)\?"):
        raise_for_result(-16)


@pytest.mark.parametrize("wrong", [None, "1", 1.0])
def test_only_an_int_is_a_result(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=type(wrong).__name__):
        raise_for_result(wrong)


# Vetoes with words.


def test_a_veto_counts_as_the_result_of_its_errno() -> None:
    veto = VetoError(errno.EBUSY, "the disk is in use")
    assert veto.result == notifier_from_errno(-errno.EBUSY)
    assert (veto.errno, veto.strerror, veto.reason) == (errno.EBUSY, *["the disk is in use"] * 2)
    assert veto.block is None
    assert "the disk is in use" in str(veto)


@pytest.mark.parametrize("wrong", [0, -16])
def test_a_veto_takes_a_positive_errno(wrong: int) -> None:
    with pytest.raises(InvalidValueError, match="positive errno"):
        VetoError(wrong)


def test_a_veto_takes_an_errno_and_not_its_name() -> None:
    wrong: Any = "EBUSY"
    with pytest.raises(InvalidTypeError, match=r"such as errno\.EBUSY, not str"):
        VetoError(wrong)


@pytest.mark.parametrize("copied", [copy.copy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_veto_can_be_copied_and_leaves_its_block_behind(copied: Any) -> None:
    twin = copied(VetoError(errno.EBUSY, "why", result=NOTIFY_STOP, block=NotifierBlock(hear)))
    assert type(twin) is VetoError
    assert (twin.errno, twin.reason, twin.result, twin.block) == (
        errno.EBUSY,
        "why",
        NOTIFY_STOP,
        None,
    )


def test_a_rollback_error_keeps_its_result_when_it_is_split_or_copied() -> None:
    group = RollbackError("undoing failed", [ValueError("one"), KeyError("two")], NOTIFY_BAD)
    values, others = group.split(ValueError)
    assert isinstance(values, RollbackError)
    assert isinstance(others, RollbackError)
    assert (values.result, others.result) == (NOTIFY_BAD, NOTIFY_BAD)
    twin = pickle.loads(pickle.dumps(group))
    assert (twin.message, len(twin.exceptions), twin.result) == ("undoing failed", 2, NOTIFY_BAD)


# Errors of registration (D6).


def test_registration_errors_carry_the_errno_of_the_kernels_function() -> None:
    assert AlreadyRegisteredError.errno == errno.EEXIST
    assert PriorityInUseError.errno == errno.EBUSY
    assert NotRegisteredError.errno == errno.ENOENT


@every_flavour
async def test_a_registration_error_names_chain_and_block_and_has_both(flavour: Any) -> None:
    chain = flavour("parts")
    block = await maybe_await(chain.register(hear, priority=5))
    newcomer = NotifierBlock(hear, name="newcomer", priority=5)
    failures: list[tuple[type[RegistrationError], Any]] = [
        (AlreadyRegisteredError, lambda: chain.register(block)),
        (PriorityInUseError, lambda: chain.register(newcomer, unique_priority=True)),
        (NotRegisteredError, lambda: chain.unregister(newcomer)),
    ]
    for kind, fails in failures:
        with pytest.raises(kind) as caught:
            await maybe_await(fails())
        error = caught.value
        assert isinstance(error, RegistrationError)
        assert error.chain is chain
        assert error.block in (block, newcomer)
        assert repr(error.block.name) in str(error)
        assert "'parts'" in str(error)
        assert chain.blocks == (block,)
    assert newcomer.chain is None


@every_flavour
async def test_a_vetoed_registration_is_both_kinds_of_error_with_the_vetos_errno(
    flavour: Any,
) -> None:
    def refuse(event: Any, data: Any) -> int:
        raise VetoError(errno.ENODEV, "no such device")

    chain = flavour("netdev", replay=lambda: [(1, None)])
    with pytest.raises(RegistrationVetoedError) as caught:
        await maybe_await(chain.register(refuse, name="refuse"))
    error = caught.value
    assert isinstance(error, RegistrationError)
    assert isinstance(error, VetoError)
    assert (error.errno, error.reason) == (errno.ENODEV, "no such device")
    assert error.result == notifier_from_errno(-errno.ENODEV)
    assert error.chain is chain
    assert error.block.name == "refuse"
    assert str(error) == (
        "block 'refuse' was not registered on chain 'netdev': it vetoed a replayed event with "
        "STOP (ENODEV): no such device"
    )
    assert not error.counts_as_result
    assert chain.is_empty
    assert error.block.chain is None


async def test_a_vetoed_registration_travels_as_a_plain_veto() -> None:
    chain = AtomicChain[Any]("netdev", replay=lambda: [(1, None)])
    with pytest.raises(RegistrationVetoedError) as caught:
        chain.register(lambda event, data: NOTIFY_BAD)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is VetoError
    assert (twin.errno, twin.result) == (errno.EPERM, NOTIFY_BAD)


# Bad input: one clear error of our own, and the chain as it was.


async def refused(chain: Any, kind: type[TocsinError], register: Any) -> str:
    """Give the message with which ``register`` is refused, having seen that it left no trace."""
    before = chain.blocks, chain.parked, chain.statistics(), await maybe_await(called(chain))
    with pytest.raises(kind) as caught:
        await maybe_await(register())
    assert isinstance(caught.value, TocsinError)
    after = chain.blocks, chain.parked, chain.statistics(), await maybe_await(called(chain))
    assert after == before
    return str(caught.value)


def called(chain: Any) -> Any:
    return chain.call("still there", None)


@pytest.fixture(params=FLAVOURS)
async def chain(request: pytest.FixtureRequest, anyio_backend: str) -> Any:
    made = request.param("bus")
    await maybe_await(made.register(hear, name="resident"))
    return made


@pytest.mark.parametrize("wrong", [None, 3, "hear", NOTIFY_OK])
async def test_a_callback_must_be_callable(chain: Any, wrong: Any) -> None:
    message = await refused(chain, InvalidTypeError, lambda: chain.register(wrong))
    assert "chain 'bus'" in message
    assert "callback" in message


@pytest.mark.parametrize("wrong", ["high", 1.5, None, True])
async def test_a_priority_must_be_an_int(chain: Any, wrong: Any) -> None:
    message = await refused(chain, InvalidTypeError, lambda: chain.register(hear, priority=wrong))
    assert message == (
        f"chain 'bus': the priority of block 'hear' must be an int, not {type(wrong).__name__}"
    )


async def test_an_unknown_option_is_named_with_those_that_there_are(chain: Any) -> None:
    message = await refused(chain, InvalidTypeError, lambda: chain.register(hear, prio=3))
    assert "chain 'bus'" in message
    assert "'hear'" in message
    assert "prio; there are name, priority" in message


async def test_an_option_given_with_a_ready_block_is_refused(chain: Any) -> None:
    block = NotifierBlock(hear, name="ready")
    message = await refused(chain, InvalidTypeError, lambda: chain.register(block, priority=3))
    assert "chain 'bus': block 'ready' has its own options; give priority to" in message
    assert block.chain is None


async def test_a_block_that_is_on_another_chain_is_refused(chain: Any) -> None:
    elsewhere = AtomicChain[Any]("elsewhere")
    block = elsewhere.register(hear, name="taken")
    message = await refused(chain, AlreadyRegisteredError, lambda: chain.register(block))
    for part in ("'taken'", "'bus'", "'elsewhere'", "unregister it first"):
        assert part in message
    assert elsewhere.blocks == (block,)
    message = await refused(chain, NotRegisteredError, lambda: chain.unregister(block))
    assert message == "block 'taken' is not on chain 'bus'; it is on 'elsewhere'"
    assert elsewhere.blocks == (block,)


async def test_a_function_cannot_be_unregistered(chain: Any) -> None:
    message = await refused(chain, NotRegisteredError, lambda: chain.unregister(hear))
    assert "keep the block that register gave you" in message


@pytest.mark.parametrize(
    "options", [{"name": "a,b"}, {"timeout": 0}, {"timeout": 1.0}, {"name": ""}], ids=str
)
async def test_an_option_without_sense_is_a_value_error_that_names_the_chain(
    chain: Any, options: dict[str, Any]
) -> None:
    message = await refused(chain, InvalidValueError, lambda: chain.register(hear, **options))
    assert message.startswith("chain 'bus': ")


async def test_unhashable_events_are_a_type_error_that_names_the_chain(chain: Any) -> None:
    message = await refused(chain, InvalidTypeError, lambda: chain.register(hear, events=[[]]))
    assert "chain 'bus': events must be hashable" in message


async def test_a_callback_that_cannot_take_event_and_data_is_refused(chain: Any) -> None:
    message = await refused(chain, InvalidTypeError, lambda: chain.register(lambda event: None))
    assert "chain 'bus'" in message
    assert "test_errors.py" in message  # where the lambda is
    assert "callback(event, data)" in message


async def test_a_subclass_that_forgot_its_base_is_told_so(chain: Any) -> None:
    class Forgetful(NotifierBlock[Any, Any, None]):
        def __init__(self) -> None:
            pass

        def notifier_call(self, event: Any, data: Any) -> None:
            pass

    message = await refused(chain, InvalidTypeError, lambda: chain.register(Forgetful()))
    assert "Forgetful.__init__() must call super().__init__()" in message


@pytest.mark.parametrize("flavour", SYNC)
async def test_an_async_callback_never_runs_where_only_sync_ones_can(flavour: Any) -> None:
    chain = flavour("bus")
    if flavour is AtomicChain:
        message = await refused(chain, AsyncCallbackError, lambda: chain.register(ahear))
    else:
        chain.register(ahear)
        with pytest.raises(AsyncCallbackError) as caught:
            chain.call(1)
        message = str(caught.value)
    assert "'bus'" in message
    assert "'ahear'" in message


@pytest.mark.parametrize("flavour", SYNC)
async def test_a_worker_thread_needs_an_async_chain(flavour: Any) -> None:
    chain = flavour("bus")
    message = await refused(chain, InvalidValueError, lambda: chain.register(hear, thread=True))
    for part in ("'bus'", "'hear'", "BlockingChain or SrcuChain"):
        assert part in message


@pytest.mark.parametrize("wrong", ["", "yes", 0.0, [], {}], ids=repr)
async def test_a_callback_that_gives_no_result_is_named(chain: Any, wrong: Any) -> None:
    block = await maybe_await(chain.register(lambda event, data: wrong, name="odd"))
    with pytest.raises(InvalidResultError) as caught:
        await maybe_await(chain.call(1))
    message = str(caught.value)
    for part in ("'odd'", "'bus'", f"gave {type(wrong).__name__}", "give an int"):
        assert part in message
    assert block in chain


async def test_a_sync_callback_that_gives_a_coroutine_is_named_and_leaks_none(chain: Any) -> None:
    await maybe_await(chain.register(lambda event, data: ahear(event, data), name="forwarder"))
    with pytest.raises(InvalidResultError) as caught:
        await maybe_await(chain.call(1))
    message = str(caught.value)
    for part in ("'forwarder'", "'bus'", "gave coroutine", "make the callback async def"):
        assert part in message


@pytest.mark.parametrize("flavour", ASYNC)
async def test_an_async_callback_that_gives_no_result_is_named(flavour: Any) -> None:
    async def odd(event: Any, data: Any) -> Any:
        return "yes"

    chain = flavour("bus")
    await chain.register(odd, name="odd")
    with pytest.raises(InvalidResultError, match="'odd' on chain 'bus' gave str"):
        await chain.call(1)


@every_flavour
@pytest.mark.parametrize("wrong", ["ignore", "", None, []], ids=repr)
def test_an_errors_policy_that_does_not_exist_is_refused(flavour: Any, wrong: Any) -> None:
    said = "<list>" if wrong == [] else repr(wrong)
    with pytest.raises(InvalidValueError) as caught:
        flavour("bus", errors=wrong)
    assert f"chain 'bus': errors={said} does not exist" in str(caught.value)
    assert "raise, collect, isolate" in str(caught.value)


def test_any_number_is_an_errno() -> None:
    """A result may carry one that the operating system cannot even be asked about."""
    with pytest.raises(VetoError, match=str(2**40)) as caught:
        raise_for_result((2**40 + 1) | 0x8000)
    assert caught.value.errno == 2**40
    assert VetoError(2**31).reason == f"Unknown error {2**31}"


@every_flavour
@pytest.mark.parametrize("wrong", ["", None, 3], ids=repr)
def test_a_chain_needs_a_name(flavour: Any, wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="chain's name"):
        flavour(wrong)


@every_flavour
def test_a_filter_and_a_replay_must_be_callable(flavour: Any) -> None:
    with pytest.raises(InvalidTypeError, match=r"chain 'bus'.*NameFilter\.parse"):
        flavour("bus", filter="a,b")
    with pytest.raises(InvalidTypeError, match="chain 'bus': replay"):
        flavour("bus", replay=[(1, None)])

    async def replay() -> Any:
        return ()

    with pytest.raises(InvalidTypeError, match="chain 'bus': replay must be a plain function"):
        flavour("bus", replay=replay)


@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize("wrong", [0, -1, "1", 1.5, 10**30], ids=repr)
def test_a_checkpoint_budget_is_an_int_above_zero(flavour: Any, wrong: Any) -> None:
    with pytest.raises(InvalidValueError, match="chain 'bus': checkpoint_every"):
        flavour("bus", checkpoint_every=wrong)


def test_every_error_is_ours() -> None:
    ours = [
        one for one in vars(tocsin).values() if isinstance(one, type) and issubclass(one, Exception)
    ]
    assert ours
    strangers = [one for one in ours if not issubclass(one, TocsinError)]
    assert strangers == [RollbackError]  # the group of what callbacks raised
