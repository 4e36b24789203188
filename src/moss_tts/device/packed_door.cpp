/* Stands before two operators of MLX: their symbols are global here, so the dynamic linker resolves the calls of
 * mlx.core to them. At the first call the library of packed_operators.cpp is loaded, which needs MLX's own library;
 * this one does not, so that no symbol of MLX becomes global. */

#include "packed_door.h"

#include <dlfcn.h>
#include <string.h>

namespace {

const char *mlx_library, *operators_library;

/* MLX's own function instead of one of here, which has the same name. */
template <typename F>
F *original(void *library, F *here) {
    Dl_info found;
    dladdr(reinterpret_cast<void *>(here), &found);
    return reinterpret_cast<F *>(dlsym(library, found.dli_sname));
}

moss_tts::operators found() {
    void *mlx = dlopen(mlx_library, RTLD_LAZY);
    moss_tts::operators theirs{original(mlx, mlx::core::matmul), original(mlx, mlx::core::quantized_matmul)};
    void *ours = dlopen(operators_library, RTLD_NOW | RTLD_LOCAL);
    auto choose = ours ? dlsym(ours, "moss_tts_operators") : nullptr;
    return choose ? reinterpret_cast<moss_tts::operators (*)(moss_tts::operators)>(choose)(theirs) : theirs;
}

const moss_tts::operators &chosen() {
    static const moss_tts::operators kept = found();
    return kept;
}

}  // namespace

extern "C" MLX_API void moss_tts_open_door(const char *mlx, const char *operators) {
    mlx_library = strdup(mlx), operators_library = strdup(operators);
}

namespace mlx::core {

array matmul(const array &a, const array &b, StreamOrDevice s) { return chosen().product(a, b, s); }

array quantized_matmul(
    const array &x, const array &w, const array &scales, const std::optional<array> &biases, bool transpose,
    std::optional<int> group_size, std::optional<int> bits, const std::string &mode, StreamOrDevice s) {
    return chosen().quantised(x, w, scales, biases, transpose, group_size, bits, mode, s);
}

}  // namespace mlx::core
