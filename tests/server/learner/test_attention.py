from __future__ import annotations

from torch.backends import cuda

from oel_server.learner.attention import fused_kernels


def test_on_a_gpu_cudnns_attention_is_left_out_and_allowed_again_afterwards():
    def allowed() -> tuple[bool, ...]:
        return cuda.cudnn_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()

    before = allowed()
    with fused_kernels():
        assert allowed() == (False, True, True)
    assert allowed() == before
