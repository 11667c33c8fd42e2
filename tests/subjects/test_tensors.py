import ml_dtypes
import numpy as np
import pytest

from gradcheck.formats import BFLOAT16, FORMATS
from gradcheck.subjects.tensors import carry_back, lent, placed, to_array, to_tensor

torch = pytest.importorskip("torch")

BASE = np.arange(-30, 30).reshape(5, 12)
LAYOUTS = {
    "whole": lambda a: a,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2, ::3],
    "offset": lambda a: a[1:, 1:],
    "scalar": lambda a: a[2, 3, ...],
    "expanded": lambda a: np.broadcast_to(a[1], (4, 12)),
    "empty": lambda a: a[:, :0],
}


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("writeable", [True, False])
def test_a_tensor_is_the_memory_of_its_array(layout, fmt, writeable):
    array = LAYOUTS[layout](BASE.astype(fmt.dtype))
    if layout != "expanded":
        array.flags.writeable = writeable
    tensor = to_tensor(array)
    assert str(tensor.dtype) == f"torch.{fmt.name}"
    assert tuple(tensor.shape) == array.shape
    assert tensor.double().tolist() == array.astype(np.float64).tolist()
    back = to_array(tensor)
    assert back.dtype == fmt.dtype
    assert back.tobytes() == array.tobytes()
    if array.size:
        assert tensor.data_ptr() == array.__array_interface__["data"][0]
        assert tuple(step * array.itemsize for step in tensor.stride()) == array.strides
        assert np.shares_memory(back, array)


def test_every_bit_pattern_of_bfloat16_crosses_unchanged():
    values = BFLOAT16.all_values()
    assert to_array(to_tensor(values)).tobytes() == values.tobytes()
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        expected = values.astype(np.float64)
    np.testing.assert_array_equal(to_tensor(values).double().numpy(), expected)


def test_a_write_to_a_read_only_array_is_seen_in_it():
    array = np.ones(3, ml_dtypes.bfloat16)
    array.flags.writeable = False
    with lent((array,), "cpu") as (tensor,):
        tensor[1] = 5
    assert array.tolist() == [1, 5, 1]
    assert not array.flags.writeable


def test_a_tensor_keeps_the_memory_of_its_array_alive():
    array = np.arange(1000.0)
    array.flags.writeable = False
    tensor = to_tensor(array)
    del array
    assert tensor.sum().item() == 499500


def test_negative_strides_are_refused():
    with pytest.raises(ValueError, match="negative"):
        to_tensor(np.arange(3.0)[::-1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_copy_for_a_device_keeps_strides_and_alignment(layout):
    host = to_tensor(LAYOUTS[layout](BASE.astype(np.float32)))
    copy = placed(host, "cpu")
    assert copy.stride() == host.stride()
    assert torch.equal(copy, host)
    if host.numel():
        assert copy.data_ptr() != host.data_ptr()
        assert copy.data_ptr() % 16 == host.data_ptr() % 16


def test_what_is_written_to_a_copy_is_carried_back():
    array = np.zeros((3, 4))[:, ::2]
    host = to_tensor(array)
    copy = placed(host, "cpu")
    copy[1, 1] = 7
    carry_back(host, copy)
    assert array[1, 1] == 7
