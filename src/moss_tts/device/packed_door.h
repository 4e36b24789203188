/* The operators of MLX that packed_door.cpp and packed_operators.cpp are about. */

#pragma once

#include "mlx/ops.h"

namespace moss_tts {

struct operators {
    decltype(mlx::core::matmul) *product;
    decltype(mlx::core::quantized_matmul) *quantised;
};

}  // namespace moss_tts
