"""Which errors lose the device: texts as ONNX Runtime and TensorRT write them, from their users' reports."""

from __future__ import annotations

import pytest

from service.engine.device_errors import is_sticky

STICKY = {
    "onnxruntime#26312": "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=DES ; "
    "file=/onnxruntime_src/onnxruntime/core/providers/cuda/gpu_data_transfer.cc ; line=63 ; "
    "expr=cudaMemcpyAsync(dst_data, src_data, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream));",
    "onnxruntime#2963, when the code was 77": "CUDA failure 77: an illegal memory access was encountered ; GPU=0 ; "
    "hostname=C246-WU4 ; expr=cudaEventDestroy(read_event_);",
    "inside a node's status": "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. "
    "Name:'Conv_0' Status Message: CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=a",
    "an assert of a kernel": "CUDA failure 710: device-side assert triggered ; GPU=0 ; hostname=a ; line=482",
    "memory that is broken": "CUDA failure 214: uncorrectable ECC error encountered ; GPU=0 ; hostname=a",
    "the GPU fell off the bus": "CUDA failure 999: unknown error ; GPU=0 ; hostname=a ; expr=cudaSetDevice(0);",
    "its name alone": "CUDA error cudaErrorMisalignedAddress:misaligned address",
    "TensorRT#4690": "IExecutionContext::enqueueV3: Error Code 1: Myelin ([exec_instruction.cpp:exec:1087] CUDA error "
    "700 launching __myl_MulMeanAddSqrtDivMulMul kernel.)",
    "TensorRT, words without a code": "[checkMacros.cpp::catchCudaError::212] Error Code 1: Cuda Runtime (an illegal "
    "memory access was encountered)",
    "TensorRT#1976": "Cuda Error in findFastestTactic: 700 (an illegal memory access was encountered)",
}
ORDINARY = {
    "onnxruntime#16307": "Non-zero status code returned while running ReduceSum node. onnxruntime::BFCArena::"
    "AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096",
    "no memory of CUDA": "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=cuda_allocator.cc ; line=48 ; "
    "expr=cudaMalloc((void**)&p, size);",
    "onnxruntime#23497": "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=DESK-SFWff ; line=493",
    "roop-unleashed#995": "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=LED-PC ; line=121",
    "cuDNN, while it looks for a kernel": "CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; hostname=MSI ; "
    "expr=cudnnFindConvolutionForwardAlgorithmEx(GetCudnnHandle(context), s_.x_tensor)",
    "TensorRT's provider": "TensorRT EP execution context enqueue failed.",
    "a wrong shape": "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: frames for the "
    "following indices index: 1 Got: 700 Expected: 224",
    "another program's code": "CUDNN failure 700: CUDNN_STATUS_NOT_SUPPORTED",
    "a line that is 719": "CUDA failure 1: invalid argument ; GPU=0 ; hostname=719 ; file=conv.cc ; line=719",
    "OpenVINO": "Exception from src/inference/src/cpp/infer_request.cpp:223: Shape inference failed",
    "nothing at all": "",
}


@pytest.mark.parametrize("text", STICKY.values(), ids=STICKY)
def test_the_process_has_lost_its_device(text: str) -> None:
    assert is_sticky(RuntimeError(text))


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_a_retry_may_mend_it(text: str) -> None:
    assert not is_sticky(RuntimeError(text))
